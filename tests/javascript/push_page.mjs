// Subscribes at /push in headless Chromium, then lets a push message arrive at the service worker.
// Arguments: the browser's program, the server's address, a client id, the message's JSON, a token.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [program, origin, client, message, token] = process.argv.slice(2);
// A folder of its own: a private window has no push at all.
const folder = await mkdtemp(join(tmpdir(), "leanvibe-push-"));
const context = await chromium.launchPersistentContext(folder, {
  executablePath: program,
  headless: true,
  locale: "de-DE",
  timezoneId: "Europe/Berlin",
  args: [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
  ],
});
try {
  await context.grantPermissions(["notifications"], { origin });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (line) => line.type() === "error" && errors.push(line.text()));
  await page.goto(`${origin}/push`);
  await page.fill("#client", client);
  await page.fill("#token", token);
  await page.click("#subscribe");
  await page.waitForFunction(() => /good|bad/.test(document.getElementById("state").className), null, { timeout: 30000 });
  const subscribed = await page.textContent("#state");

  const developer = await context.newCDPSession(page);
  const registration = new Promise((done) => {
    developer.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
      const ours = registrations.find((one) => one.scopeURL === `${origin}/push/` && !one.isDeleted);
      if (ours) done(ours.registrationId);
    });
  });
  await developer.send("ServiceWorker.enable");
  const registrationId = await registration;
  const notifications = () => page.evaluate(async () => {
    const ours = await navigator.serviceWorker.getRegistration("/push/");
    return (await ours.getNotifications()).map(({ title, body, tag }) => ({ title, body, tag }));
  });
  // The browser drops a message for a worker that it is just starting, so it is pushed until it shows.
  let shown = [];
  for (const end = Date.now() + 60000; shown.length === 0 && Date.now() < end; shown = await notifications()) {
    await developer.send("ServiceWorker.deliverPushMessage", { origin, registrationId, data: message });
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  // A repeat replaces the first.
  await developer.send("ServiceWorker.deliverPushMessage", { origin, registrationId, data: message });
  await page.click("#test");
  await page.waitForFunction(() => document.getElementById("state").textContent.includes("on its way"), null, { timeout: 30000 });
  const afterwards = (await notifications()).length;
  console.log(JSON.stringify({ subscribed, shown, afterwards, errors }));
} finally {
  await context.close();
  await rm(folder, { recursive: true, force: true });
}
