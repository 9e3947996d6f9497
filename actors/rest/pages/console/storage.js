/** What this browser remembers. Storage may be full or forbidden: then the page works and forgets when it is closed. */

import { signal } from "./vendor/signals.js";

/** Whether something could not be kept, so that it is gone with this window. */
export const isForgetful = signal(false);
const PREFIX = "leanvibe.";
const ENTRIES = 200;
/** @type {Map<string, string>} */
const instead = new Map();
/**
 * @param {"local" | "session"} where `local` outlives the window, `session` only a reload
 * @returns {Storage | null}
 */
function place(where) {
  try {
    return where === "local" ? localStorage : sessionStorage;
  } catch {
    return null;
  }
}

/**
 * @param {"local" | "session"} where
 * @param {string} name
 * @returns {string | null}
 */
export function recall(where, name) {
  try {
    const found = place(where)?.getItem(PREFIX + name);
    if (found != null) return found;
  } catch {
    // Reading can be forbidden, too.
  }
  return instead.get(`${where}.${name}`) ?? null;
}

/**
 * Remembers a text; null forgets it.
 * @param {"local" | "session"} where
 * @param {string} name
 * @param {string | null} value
 */
export function remember(where, name, value) {
  const key = `${where}.${name}`;
  instead.delete(key);
  try {
    const storage = place(where);
    if (storage === null) throw new Error("forbidden");
    if (value === null) storage.removeItem(PREFIX + name);
    else storage.setItem(PREFIX + name, value);
  } catch {
    if (value !== null) {
      isForgetful.value = true;
      instead.set(key, value);
    }
    if (instead.size > ENTRIES) instead.delete(instead.keys().next().value ?? "");
  }
}

/**
 * An object that was remembered, or null where there is none or it is damaged.
 * @param {"local" | "session"} where
 * @param {string} name
 * @returns {{[key: string]: unknown} | null}
 */
export function recallObject(where, name) {
  try {
    const found = JSON.parse(recall(where, name) ?? "null");
    return found !== null && typeof found === "object" ? found : null;
  } catch {
    return null;
  }
}

/**
 * Whether what was remembered under this name is really in the browser's storage.
 * @param {"local" | "session"} where
 * @param {string} name
 */
export function isKept(where, name) {
  try {
    return place(where)?.getItem(PREFIX + name) != null;
  } catch {
    return false;
  }
}
