// What the recogniser of a page says of raw images, for Python to compare.
//
//   URL=.. FOLDER=.. npx playwright test cells
//
// FOLDER holds *.tif and receives codes.json: file -> parameters of Q.

import { readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { test } from "@playwright/test";

const { URL: url, FOLDER: folder } = process.env;

test("raw images of 16 bits are read", async ({ page }) => {
  await page.goto(url);
  await page.waitForSelector("body[data-ready]", { timeout: 30_000 });
  const codes = {};
  for (const name of (await readdir(folder)).filter((file) => file.endsWith(".tif"))) {
    await page.evaluate(() => {
      delete document.body.dataset.q;
    });
    await page.setInputFiles("#file", path.join(folder, name));
    await page.waitForSelector("body[data-q]");
    codes[name] = await page.$eval("body", (body) =>
      body.dataset.q.split(" ").map(Number),
    );
  }
  await writeFile(path.join(folder, "codes.json"), JSON.stringify(codes));
});
