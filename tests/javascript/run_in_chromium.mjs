// node run_in_chromium.mjs PROGRAM SCENARIO [ARGUMENT as JSON …]: the same in a page of headless Chromium.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

const [program, name, ...given] = process.argv.slice(2);
const files = {
  "/": ["text/html", "data:,<!doctype html><title>test</title>"],
  "/leanvibe.js": ["text/javascript", new URL("../../protocol/javascript/leanvibe.js", import.meta.url)],
  "/scenarios.mjs": ["text/javascript", new URL("./scenarios.mjs", import.meta.url)],
};
const server = createServer(async (request, response) => {
  const [type, source] = files[request.url] ?? [];
  if (type === undefined) return response.writeHead(404).end();
  response.writeHead(200, { "content-type": type });
  return response.end(typeof source === "string" ? source.slice("data:,".length) : await readFile(source));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const browser = await chromium.launch({
  executablePath: program,
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const result = await page.evaluate(
    async ([scenario, values]) => {
      const [leanvibe, scenarios] = await Promise.all([import("/leanvibe.js"), import("/scenarios.mjs")]);
      return scenarios[scenario](leanvibe, ...values);
    },
    [name, given.map((one) => JSON.parse(one))],
  );
  process.stdout.write(JSON.stringify(result));
} finally {
  await browser.close();
  server.close();
}
