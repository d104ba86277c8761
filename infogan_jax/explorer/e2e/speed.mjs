// How fast the page of an export is here, and how large.
//
//   node e2e/speed.mjs URL

import { chromium } from "@playwright/test";
import config from "../playwright.config.mjs";

const [url] = process.argv.slice(2);
const browser = await chromium.launch(config.use.launchOptions);
const page = await browser.newPage();
const sizes = {};
page.on("response", async (response) => {
  const body = await response.body().catch(() => Buffer.alloc(0));
  sizes[new URL(response.url()).pathname.split("/").pop() || "index.html"] =
    body.length;
});
const start = Date.now();
const since = () => ((Date.now() - start) / 1000).toFixed(2);
await page.goto(url, { waitUntil: "commit" });
await page.waitForFunction(() => {
  const canvas = document.querySelector(".category canvas");
  const data = canvas?.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data?.data.some((value) => value > 0);
});
console.log(`first picture, drawn before: ${since()} s`);
await page.waitForSelector("body[data-ready]", { timeout: 60_000 });
console.log(`first picture of the network: ${since()} s`);
// Not by the frames of a screen, which are 60 a second at most
const painted = () => page.$eval("body", (body) => Number(body.dataset.painted));
await page.evaluate(() => {
  globalThis.requestAnimationFrame = (done) => setTimeout(done, 0);
});
await page.click("#move");
await page.waitForTimeout(1000);
const rates = [];
for (let i = 0; i < 5; i++) {
  const [before, from] = [await painted(), Date.now()];
  await page.waitForTimeout(2000);
  rates.push((1000 * ((await painted()) - before)) / (Date.now() - from));
}
rates.sort((a, b) => a - b);
const shown = rates.map((rate) => rate.toFixed(0));
console.log(
  `images/s while moving, strip included: ${shown[2]} (${shown[0]} to ${shown[4]})`,
);
for (const [name, bytes] of Object.entries(sizes)) {
  if (bytes > 50_000) console.log(`${name}: ${(bytes / 2 ** 20).toFixed(2)} MiB`);
}
await browser.close();
