// node drive.mjs PROGRAM: a headless Chromium that does what lines of JSON on standard input say, one answer a line.
//   {"id": 1, "page": "one", "method": "goto", "arguments": ["http://…"]}            of Playwright's page
//   {"id": 2, "page": "one", "selector": "#question", "method": "fill", "arguments": ["…"]}    of a locator
//   {"id": 3, "page": "two", "method": "open", "arguments": [{"colorScheme": "dark"}]}         a page with storage of its own
//   {"id": 4, "page": "tab", "method": "beside", "arguments": ["one"]}               a page that shares the storage of another
// What a page complains of (faults of scripts, errors in its console, violations of its policy) is `complaints`.
import { createInterface } from "node:readline";
import { chromium } from "../javascript/node_modules/playwright-core/index.mjs";

const PATIENCE_MS = 100_000;

const browser = await chromium.launch({
  executablePath: process.argv[2],
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});
const pages = new Map();
const complaints = new Map();

async function opened(name, context) {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const told = [];
  complaints.set(name, told);
  page.on("pageerror", (error) => told.push(`fault: ${error.stack ?? error}`));
  page.on("console", (line) => line.type() === "error" && told.push(`console: ${line.text()}`));
  await page.exposeFunction("leanvibeTestViolation", (what) => told.push(`policy: ${what}`));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => {
      window.leanvibeTestViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
    });
  });
  pages.set(name, page);
}

function inPage(source) {
  return (0, eval)(`([...given]) => (${source})(...given)`);
}

async function until(page, condition, given) {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 30))) {
    // A page that is being loaded again has nothing yet.
    if (await page.evaluate(condition, given).catch(() => false)) return;
  }
  const shown = await page.evaluate(() => document.body.innerText).catch(String);
  throw new Error(`not within ${PATIENCE_MS / 1000} s: ${condition} of ${JSON.stringify(given)}; the page says: ${shown.slice(0, 2000)}`);
}

async function carryOut({ page: name, selector, method, arguments: given = [] }) {
  if (method === "open") return opened(name, await browser.newContext(given[0] ?? {}));
  if (method === "beside") return opened(name, pages.get(given[0]).context());
  const page = pages.get(name);
  if (method === "complaints") return complaints.get(name);
  if (method === "offline") return page.context().setOffline(given[0]);
  if (method === "fulfil") return page.route(given[0], (route) => route.fulfill({ contentType: "application/json", body: given[1] }));
  if (method === "press") return page.keyboard.press(given[0]);
  if (method === "permit") return page.context().grantPermissions(given[0]);
  if (method === "script") return void (await page.addScriptTag(given[0]));
  // As functions: what is a string would be evaluated in the page, which its policy forbids.
  if (method === "evaluate") return page.evaluate(inPage(given[0]), given.slice(1));
  if (method === "until") return until(page, inPage(given[0]), given.slice(1));
  const target = selector === undefined ? page : page.locator(selector);
  const result = await target[method](...given);
  return ["string", "number", "boolean"].includes(typeof result) || Array.isArray(result) ? result : null;
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let answer;
  try {
    answer = { id: asked.id, result: (await carryOut(asked)) ?? null };
  } catch (error) {
    answer = { id: asked.id, error: String(error.stack ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
