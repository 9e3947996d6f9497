// node open_page.mjs PROGRAM URL QUESTION: opens examples/page.html in headless Chromium, asks, and prints what the page shows.
import { chromium } from "playwright-core";

const [program, url, question] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const page = await browser.newPage();
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector("#state").textContent === "connected");
  await page.fill("textarea", question);
  await page.click("button");
  await page.waitForFunction(() => !["connected", "connecting"].includes(document.querySelector("#state").textContent));
  process.stdout.write(JSON.stringify({
    answer: await page.textContent("#answer"), state: await page.textContent("#state"),
  }));
} finally {
  await browser.close();
}
