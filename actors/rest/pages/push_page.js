"use strict";
// Subscribes this browser and registers it with the server. Says plainly what failed.

const SETTINGS = "leanvibe-push";
const SERVICE_MILLISECONDS = 10000;
const byId = (name) => document.getElementById(name);

function say(text, kind) {
  byId("state").textContent = text;
  byId("state").className = kind;
}

function settings() {
  return {
    client: byId("client").value.trim(),
    device: byId("device").value.trim(),
    token: byId("token").value.trim(),
  };
}

async function call(method, path, body) {
  const { token } = settings();
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail || response.statusText);
  return answer;
}

function bytesOf(base64url) {
  const base64 = base64url.replace(/-/g, "+").replace(/_/g, "/");
  return Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
}

function within(milliseconds, promise) {
  const late = new Promise((_, refuse) => {
    setTimeout(() => refuse(new Error(`no answer within ${milliseconds / 1000} seconds`)), milliseconds);
  });
  return Promise.race([promise, late]);
}

async function worker() {
  const registration = await navigator.serviceWorker.register("/push/worker.js", { scope: "/push/" });
  const starting = registration.installing || registration.waiting;
  if (!registration.active && starting) {
    await new Promise((done) => {
      starting.addEventListener("statechange", () => starting.state === "activated" && done());
    });
  }
  // The worker runs without this page, so it keeps a copy of what it needs to answer.
  const kept = await caches.open(SETTINGS);
  await kept.put("/push/settings", new Response(JSON.stringify(settings())));
  return registration;
}

async function subscribe() {
  say("Asking for permission …", "");
  if ((await Notification.requestPermission()) !== "granted") {
    say("This browser was not allowed to show notifications.", "bad");
    return false;
  }
  const registration = await worker();
  const { public_key: key } = await call("GET", "/push/key");
  let subscription;
  try {
    // A browser that cannot reach its maker's service tries on for ever, in silence.
    const options = { userVisibleOnly: true, applicationServerKey: bytesOf(key) };
    subscription = await within(SERVICE_MILLISECONDS, registration.pushManager.subscribe(options));
  } catch (error) {
    say(`The browser's push service failed: ${error.message}`, "bad");
    return false;
  }
  const { client, device } = settings();
  await call("POST", `/notifications/${encodeURIComponent(client)}/devices`, {
    device_id: device,
    platform: "web",
    subscription: subscription.toJSON(),
    timezone: Intl.DateTimeFormat().resolvedOptions().timeZone,
    locale: navigator.language,
  });
  say("Subscribed.", "good");
  return true;
}

async function unsubscribe() {
  const registration = await navigator.serviceWorker.getRegistration("/push/");
  const subscription = registration && (await registration.pushManager.getSubscription());
  if (subscription) await subscription.unsubscribe();
  const { client, device } = settings();
  await call("DELETE", `/notifications/${encodeURIComponent(client)}/devices/${encodeURIComponent(device)}`);
  say("Not subscribed.", "");
}

async function isRegistered() {
  const { client, device } = settings();
  const { devices } = await call("GET", `/notifications/${encodeURIComponent(client)}/devices`);
  return devices.some((one) => one.device_id === device && one.platform === "web");
}

async function sendTest() {
  if (!(await isRegistered()) && !(await subscribe())) return;
  const { client } = settings();
  await call("POST", `/notifications/${encodeURIComponent(client)}`, {
    template: "message",
    fields: { title: "It works", body: "This is how a notification looks." },
  });
  say("A test is on its way.", "good");
}

// The server's greeting names the client of the command line here.
byId("client").value = new URLSearchParams(location.search).get("client") || byId("client").value;

for (const [name, action] of Object.entries({ subscribe, unsubscribe, test: sendTest })) {
  byId(name).addEventListener("click", () => action().catch((error) => say(error.message, "bad")));
}
