// A person's way through the page, in a real browser.
//
//   URL=.. FOLDER=.. npx playwright test
//
// URL is the page. FOLDER holds what is dropped in (digit.png, huge.png, text.png,
// cells.tif, broken.tif) and receives what is saved.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "@playwright/test";

const { URL: url, FOLDER: folder } = process.env;
const axe = createRequire(import.meta.url).resolve("axe-core");
let browser;
let foreign = []; // requests to other hosts, which no page may make

test.beforeEach(({ browser: launched }) => {
  browser = launched;
  foreign = [];
});

test.afterEach(async () => {
  for (const context of browser.contexts()) await context.close();
  assert.deepEqual(foreign, []);
});

/** A page that is ready; it may ask its own origin only. */
async function open(at = url, options = {}) {
  const context = await browser.newContext({ acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error.message));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) page.faults.push(message.text());
  });
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    const isOwn = protocol === "blob:" || origin === new URL(url).origin;
    if (!isOwn) foreign.push(request.url());
  });
  await page.goto(at);
  await page.waitForSelector("body[data-ready]", { timeout: 30_000 });
  await page.selectOption("#enlargement", "pixels"); // a canvas has the image's own
  await settled(page);
  return page;
}

async function settled(page) {
  await page.waitForTimeout(500);
}

/** The pixels of a canvas, and what a picture is made from. */
const pixels = (page, selector = "#panels canvas") =>
  page.$eval(selector, (canvas) =>
    Array.from(
      canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data,
    ),
  );

async function download(page, button, name) {
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  await file.saveAs(path.join(folder, name));
  return readFile(path.join(folder, name));
}

const status = (page) => page.textContent("#status");

test("a picture is there, and nothing is complained of", async () => {
  const page = await open();
  assert.equal(await status(page), "");
  assert((await pixels(page)).some((value, i) => i % 4 < 3 && value > 0));
  assert.deepEqual(page.faults, []);
});

test("pictures are enlarged smoothly, or as pixels", async () => {
  const page = await open();
  await page.click("#pin");
  const width = (selector) => page.$eval(selector, (canvas) => canvas.width);
  for (const [choice, expected, rendering] of [
    ["pixels", 28, "pixelated"],
    ["smooth", 224, "auto"],
    ["pixels", 28, "pixelated"],
  ]) {
    await page.selectOption("#enlargement", choice);
    assert.equal(await width("#panels canvas"), expected);
    assert.equal(await width("#beside canvas"), expected);
    const style = (canvas) => getComputedStyle(canvas).imageRendering;
    assert.equal(await page.$eval(".category canvas", style), rendering);
  }
  const crisp = await download(page, "#save-png", "crisp.png");
  await page.selectOption("#enlargement", "smooth");
  assert(!crisp.equals(await download(page, "#save-png", "smooth.png")));
});

test("a slider is dragged, reset by a double click and by a key", async () => {
  const page = await open();
  const slider = page.locator("#sliders input[type=range]").first();
  const before = await pixels(page);
  const box = await slider.boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width - 9, box.y + box.height / 2, { steps: 8 });
  await page.mouse.up();
  await settled(page);
  assert(Number(await slider.inputValue()) > 1.8);
  assert.notDeepEqual(await pixels(page), before);
  await slider.dblclick({ position: { x: box.width * 0.8, y: box.height / 2 } });
  await settled(page);
  assert.equal(await slider.inputValue(), "0");
  assert.deepEqual(await pixels(page), before);
  await slider.focus();
  await page.keyboard.press("ArrowRight");
  assert.equal(await slider.inputValue(), "0.01");
  await page.keyboard.press("Delete");
  assert.equal(await slider.inputValue(), "0");
});

test("what a treatment does is shown beside the picture as it was", async () => {
  const page = await open();
  await page.click("#treatments summary");
  const rows = page.locator("#treatments tbody tr");
  assert.equal(await rows.count(), 2);
  assert.match(
    await rows.first().textContent(),
    /drug, trend−0\.400−0\.500 to \+0\.500/,
  );
  await rows.first().locator("button").click();
  await settled(page);
  const slider = page.locator("#sliders input[type=range]").first();
  assert.equal(await slider.inputValue(), "-1");
  assert.match(await page.textContent("#difference"), /slant 0\.00 → -1\.00/);
  assert.match(await rows.last().textContent(), /no test possible/);
  await rows.last().locator("button").click();
  await settled(page);
  assert(await page.locator("#strip input[value='3']").isChecked());
  assert.deepEqual(page.faults, []);
});

test("a category is chosen by mouse and by keyboard", async () => {
  const page = await open();
  const before = await pixels(page);
  const chosen = ".category:has(:checked) canvas";
  await page.locator(".category:not(:has(:checked))").nth(4).click();
  await settled(page);
  const after = await pixels(page);
  assert.notDeepEqual(after, before);
  assert.deepEqual(after, await pixels(page, chosen));
  await page.keyboard.press("ArrowRight");
  await settled(page);
  assert.notDeepEqual(await pixels(page), after);
  assert.deepEqual(await pixels(page), await pixels(page, chosen));
});

test("codes and noise are drawn anew, each by itself", async () => {
  const page = await open();
  const z = async () => new URLSearchParams(new URL(page.url()).hash.slice(1)).get("z");
  const part = (text, isNoise) =>
    text
      .split(" ")
      .filter((item) => item.startsWith("noise") === isNoise)
      .join();
  const start = await z();
  await page.click("#randomize-codes");
  await settled(page);
  const codes = await z();
  assert.notEqual(part(codes, false), part(start, false));
  assert.equal(part(codes, true), part(start, true));
  await page.click("#randomize-noise");
  await settled(page);
  const noise = await z();
  assert.equal(part(noise, false), part(codes, false));
  assert.notEqual(part(noise, true), part(codes, true));
});

test("it keeps moving until it is stopped", async () => {
  const page = await open();
  await page.click("#move");
  const painted = () => page.$eval("body", (body) => Number(body.dataset.painted));
  const before = await painted();
  await page.waitForTimeout(2500);
  assert((await painted()) > before + 2);
  await page.click("#move");
  await settled(page);
  const stopped = await pixels(page);
  await page.waitForTimeout(300);
  assert.deepEqual(await pixels(page), stopped);
});

test("those who want no motion get a picture each second", async () => {
  const page = await open(url, { reducedMotion: "reduce" });
  const painted = () => page.$eval("body", (body) => Number(body.dataset.painted));
  const before = await painted();
  await page.click("#move");
  await page.waitForTimeout(2500);
  const more = (await painted()) - before;
  assert(more >= 1 && more <= 3, `${more} pictures`);
});

test("a grid is shown and a picture is taken from it", async () => {
  const page = await open();
  await page.click("#grid summary");
  await settled(page);
  assert.equal(await page.locator("#cells button").count(), 10 * 7);
  const cell = "#cells tr:nth-child(4) td:nth-of-type(3)";
  const wanted = await pixels(page, `${cell} canvas`);
  await page.click(`${cell} button`);
  await settled(page);
  assert.deepEqual(await pixels(page), wanted);
  await page.selectOption("#columns", "styles");
  await settled(page);
  assert.equal(await page.locator("#cells button").count(), 10 * 8);
});

test("a pinned picture stays, and what differs is said", async () => {
  const page = await open();
  const before = await pixels(page);
  await page.click("#pin");
  await page.locator(".category:not(:has(:checked))").nth(2).click();
  await settled(page);
  assert.deepEqual(await pixels(page, "#beside canvas"), before);
  assert.match(await page.textContent("#difference"), /Other than pinned: .+ → .+/);
});

test("a link gives back all that was shown", async () => {
  const page = await open();
  await page.click("#randomize-codes");
  await page.click("#randomize-noise");
  await page.click("#pin");
  await page.locator(".category:not(:has(:checked))").nth(7).click();
  await page.click("#grid summary");
  await page.selectOption("#rows", "styles");
  await settled(page);
  const again = await open(page.url());
  for (const canvas of ["#panels canvas", "#beside canvas", "#cells canvas"]) {
    assert.deepEqual(await pixels(again, canvas), await pixels(page, canvas));
  }
  assert.equal(await again.inputValue("#rows"), "styles");
  assert.equal(await status(again), "");
  assert.equal(again.url(), page.url());
  // A link with less in it, in the same page
  const { hash } = new URL((await open()).url());
  await again.evaluate((text) => {
    location.hash = text;
  }, hash);
  await settled(again);
  assert.equal(await again.locator("#beside canvas").count(), 0);
  assert.equal(await again.getAttribute("#grid", "open"), null);
});

test("links that are wrong are told of, and nothing breaks", async () => {
  for (const [hash, told] of [
    ["#model=ffffffffffff&z=cat:1", /of another model/],
    ["#model=<img src=x onerror=alert(1)>", /of another model/],
  ]) {
    const page = await open(`${url}${hash}`);
    assert.match(await status(page), told);
    assert.equal(await page.locator("#status img").count(), 0);
    assert.deepEqual(page.faults, []);
  }
});

/** Waits until the generator has made a person's image again. */
async function found(page) {
  await page.waitForSelector("#own:not([hidden])", { timeout: 60_000 });
  await settled(page);
}

test("an image is read, made again, and follows the sliders", async () => {
  const page = await open();
  await page.setInputFiles("#file", path.join(folder, "digit.png"));
  await found(page);
  assert.match(await status(page), /% of it is missing/);
  assert.match(await status(page), /brought from 60 × 40 to 28 × 28 pixels/);
  assert.equal(await page.textContent("#beside figcaption"), "your image");
  // With what is missing, it is the image itself
  const image = await pixels(page, "#beside canvas");
  const whole = await pixels(page);
  assert(Math.max(...whole.map((value, i) => Math.abs(value - image[i]))) <= 1);
  await page.uncheck("#keep-missing");
  await settled(page);
  const again = await pixels(page);
  assert.notDeepEqual(again, whole);
  // A slider changes this image; other noise is another one
  const slider = page.locator("#sliders input[type=range]").first();
  await slider.focus();
  for (let i = 0; i < 20; i++) await page.keyboard.press("PageUp");
  await settled(page);
  assert.notDeepEqual(await pixels(page), again);
  await page.click("#randomize-noise");
  assert(await page.isHidden("#own"));
  // By drag and drop, too
  const content = await readFile(path.join(folder, "digit.png"), "base64");
  const files = await page.evaluateHandle((text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "digit.png", { type: "image/png" }));
    return transfer;
  }, content);
  await page.dispatchEvent("body", "drop", { dataTransfer: files });
  await found(page);
  // Who moves on while the generator searches is not called back
  await page.setInputFiles("#file", path.join(folder, "digit.png"));
  await page.click("#randomize-codes");
  await page.waitForTimeout(5000);
  assert(await page.isHidden("#own"));
  for (const [name, told] of [
    ["huge.png", /50 megapixels; 25 are the most/],
    ["text.png", /no picture that this browser can read/],
    ["cells.tif", /The image has 2 channels; this network reads 1/],
    ["broken.tif", /The TIFF file cannot be read/],
  ]) {
    await page.setInputFiles("#file", path.join(folder, name));
    await settled(page);
    assert.match(await status(page), told);
  }
});

test("pictures, an animation and latents are saved", async () => {
  const page = await open();
  await page.locator(".category:not(:has(:checked))").nth(3).click();
  await page.click("#randomize-codes");
  await settled(page);
  await writeFile(path.join(folder, "canvas.json"), JSON.stringify(await pixels(page)));
  const png = await download(page, "#save-png", "picture.png");
  assert.equal(png.subarray(1, 4).toString(), "PNG");
  const gif = await download(page, "#save-gif", "moving.gif");
  assert.equal(gif.subarray(0, 6).toString(), "GIF89a");
  await download(page, "#save-sheet", "sheet.png");
  const latents = JSON.parse(await download(page, "#save-latents", "latents.json"));
  assert.equal(latents.latents.length, 1);
});

test("what is saved at once is saved one after the other", async () => {
  const page = await open();
  const names = [];
  page.on("download", (file) => names.push(file.suggestedFilename().split("_").pop()));
  await page.evaluate(() => {
    for (const id of ["pin", "save-gif", "save-png", "save-sheet"]) {
      document.getElementById(id).click();
    }
  });
  await page.waitForTimeout(4000);
  assert.deepEqual(names.sort(), ["moving.gif", "picture.png", "sheet.png"]);
  assert.deepEqual(await pixels(page, "#beside canvas"), await pixels(page));
});

test("everything is reached by keyboard", async () => {
  const page = await open();
  const seen = new Set();
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press("Tab");
    seen.add(
      await page.evaluate(() => {
        const element = document.activeElement;
        return element?.id || element?.name || element?.tagName;
      }),
    );
  }
  for (const name of [
    ..."slider-uniform1 slider-uniform2 cat pin file save-png save-gif".split(" "),
    ..."randomize-codes randomize-noise move moving speed SUMMARY".split(" "),
  ]) {
    assert(seen.has(name), `${name} is not reached: ${[...seen]}`);
  }
});

test("no screen is too narrow or too wide, and axe finds nothing", async () => {
  for (const [width, colorScheme] of [
    [360, "light"],
    [1280, "dark"],
    [2560, "light"],
  ]) {
    const page = await open(url, { viewport: { width, height: 800 }, colorScheme });
    await page.click("#grid summary");
    await page.click("#pin");
    await settled(page);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert(wide <= width, `${wide} pixels on a screen of ${width}`);
    const source = await readFile(axe, "utf8");
    await page.evaluate(source); // by the debugger, which no policy of the page binds
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(
      violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]),
      [],
    );
    await page.screenshot({
      path: path.join(folder, `page_${width}.png`),
      fullPage: true,
    });
  }
});

/** The page with other content in place of one of its files. */
async function harmed(file, change) {
  const context = await browser.newContext();
  const page = await context.newPage();
  page.alerts = 0;
  page.on("dialog", (dialog) => {
    page.alerts += 1;
    dialog.dismiss();
  });
  await page.route(`**/${file}`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: change(await response.body()) });
  });
  await page.goto(url);
  return page;
}

async function toldOf(page, told) {
  await page.waitForFunction(() => document.querySelector("#status.fault"));
  assert.match(await status(page), told);
}

test("harmed files are told of in a line", async () => {
  const cut = (body) => body.subarray(0, body.length >> 1);
  const flip = (body) => {
    body[body.length >> 1] ^= 1;
    return body;
  };
  await toldOf(await harmed("generator.onnx", cut), /generator.onnx has \d+ bytes/);
  await toldOf(await harmed("generator.onnx", flip), /does not fit model.json/);
  await toldOf(await harmed("model.json", cut), /is no JSON/);
  const other = (body) =>
    Buffer.from(body.toString().replace(/"latent_dim": \d+/, '"latent_dim": 7'));
  await toldOf(await harmed("model.json", other), /the codes do not add up/);
});

test("words from files are never HTML", async () => {
  const evil = "<img src=x onerror=alert(1)>";
  const page = await harmed("model.json", (body) => {
    const about = JSON.parse(body);
    about.name = about.dataset = evil;
    about.metrics = { [evil]: 1 };
    for (const code of about.codes) {
      if (code.labels) code.labels[0] = evil;
      if (code.trained) code.meaning = evil;
    }
    return Buffer.from(JSON.stringify(about));
  });
  await page.waitForSelector("body[data-ready]");
  assert.equal(await page.textContent("#name"), evil);
  assert.equal(await page.locator("img").count(), 0);
  assert.equal(page.alerts, 0);
});

test("a browser without WebAssembly is told so", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.addInitScript(() => {
    delete globalThis.WebAssembly;
  });
  await page.goto(url);
  await toldOf(page, /no WebAssembly/);
});
