// Chromium without a screen, which asks nobody for anything by itself.

import { defineConfig } from "@playwright/test";

const flags =
  "no-sandbox disable-gpu disable-quic disable-background-networking disable-component-update disable-sync";

export default defineConfig({
  testDir: "e2e",
  outputDir: "node_modules/.e2e", // of failed tests
  reporter: "line",
  timeout: 60_000,
  workers: 1, // Python's tests take the other core
  use: {
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: flags.split(" ").map((flag) => `--${flag}`),
    },
  },
});
