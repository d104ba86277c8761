// A report's tables in a browser: a click on the head of a column sorts by it.
//
//   URL=file:///../report.html npx playwright test report

import { expect, test } from "@playwright/test";

test("a click sorts a table", async ({ page }) => {
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(process.env.URL);
  const column = (place) =>
    page.locator(`tr:not(:first-child) > :nth-child(${place})`).allTextContents();
  const head = (name) => page.getByRole("button", { name });
  await head("effect").click(); // numbers as numbers: 10 is more than 9
  expect(await column(2)).toEqual(["\u22121.5", "9", "10"]);
  expect(await column(1)).toEqual(["b", "c", "a"]); // rows stay whole
  await head("effect").click();
  expect(await column(2)).toEqual(["10", "9", "\u22121.5"]);
  await head("code").click();
  expect(await column(1)).toEqual(["a", "b", "c"]);
  expect(errors).toEqual([]);
});
