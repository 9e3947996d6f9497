"use strict";
// Shows what is pushed, tells the server that it did, and opens LeanVibe when a person taps it.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

async function tell(notificationId, word) {
  const kept = await (await caches.open("leanvibe-push")).match("/push/settings");
  if (!kept) return;
  const { client, device, token } = await kept.json();
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const path = `/notifications/${encodeURIComponent(client)}/${encodeURIComponent(notificationId)}/${word}`;
  try {
    await fetch(path, { method: "POST", headers, body: JSON.stringify({ device_id: device }) });
  } catch (error) {
    // The server may be off; the notification is shown all the same.
    console.warn("not told", error);
  }
}

async function show(told) {
  await self.registration.showNotification(told.title, {
    body: told.body,
    // A repeat of the same notification takes the place of the first.
    tag: told.notification_id,
    data: told,
    requireInteraction: told.priority === "critical",
  });
  if (navigator.setAppBadge && Number.isInteger(told.badge)) await navigator.setAppBadge(told.badge);
  await tell(told.notification_id, "delivered");
}

self.addEventListener("push", (event) => {
  if (event.data) event.waitUntil(show(event.data.json()));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const told = event.notification.data;
  event.waitUntil(
    tell(told.notification_id, "opened").then(async () => {
      const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
      return windows.length ? windows[0].focus() : self.clients.openWindow("/push");
    }),
  );
});
