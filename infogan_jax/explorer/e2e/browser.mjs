// Chromium without a screen, which asks nobody for anything by itself.

import { chromium } from "playwright-core";

const flags =
  "no-sandbox disable-gpu disable-quic disable-background-networking disable-component-update disable-sync";

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: flags.split(" ").map((flag) => `--${flag}`),
  });
}
