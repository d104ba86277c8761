import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // any folder of any web host
  build: { target: "es2022", assetsInlineLimit: 0, chunkSizeWarningLimit: 1000 },
  worker: { format: "es" },
});
