/** The inbox of this client, as the server has it. */

import { CommandFailed } from "./leanvibe.js";
import { onConnected, onEvent, server } from "./session.js";
import { batch, signal } from "./vendor/signals.js";

/** @typedef {import("./leanvibe.js").Notification} Notification */

const PAGE = 50;

/** Newest first. */
export const notifications = signal(/** @type {Notification[]} */ ([]));
export const unread = signal(0);
/** Where the next page begins; empty after the last. */
export const next = signal("");
export const problem = signal("");

onConnected(() => load());

onEvent((event) => {
  if (event.type === "snapshot" || event.type === "notification") load();
});

/** @param {() => Promise<void>} work */
async function attempt(work) {
  try {
    problem.value = "";
    await work();
  } catch (error) {
    // A cut connection is told above the page.
    if (error instanceof CommandFailed) problem.value = error.message;
  }
}

export function load() {
  return attempt(async () => {
    const page = await server().command("notification_list", { limit: PAGE });
    batch(() => {
      notifications.value = page.notifications;
      unread.value = page.unread;
      next.value = page.next ?? "";
    });
  });
}

export function loadMore() {
  return attempt(async () => {
    const page = await server().command("notification_list", { limit: PAGE, cursor: next.value });
    batch(() => {
      notifications.value = [...notifications.value, ...page.notifications];
      unread.value = page.unread;
      next.value = page.next ?? "";
    });
  });
}

/** @param {string} id */
export function markRead(id) {
  return attempt(async () => {
    await server().command("notification_read", { notification_ids: [id], opened: true });
    await load();
  });
}

export function markAllRead() {
  return attempt(async () => {
    await server().command("notification_read_all", {});
    await load();
  });
}
