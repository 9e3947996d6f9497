/** The console: its pages by the part of the address behind `#`, the bar above them, and what is said of the connection. */

import { Board } from "./board.js";
import { Chat } from "./chat.js";
import { entry, keepEntry } from "./entering.js";
import { html } from "./html.js";
import { lazy } from "./lazy_page.js";
import { Notifications } from "./notifications.js";
import { unread } from "./notifications_model.js";
import { connection, engine, isOutdated, minutesAhead, start } from "./session.js";
import { isForgetful } from "./storage.js";
import { TokenForm } from "./token_form.js";
import { Component, render } from "./vendor/preact.js";
import { signal } from "./vendor/signals.js";

/** Pages by their place in the address. What most people never open is fetched when it is opened. */
const PAGES = [
  { path: "chat", title: "Chat", page: Chat },
  { path: "board", title: "Board", page: Board },
  { path: "notifications", title: "Notifications", page: Notifications },
  { path: "connect", title: "Connect", page: lazy(async () => (await import("./connect.js")).Connect) },
  { path: "system", title: "System", page: lazy(async () => (await import("./system.js")).System) },
  { path: "requests", title: "Requests", page: lazy(async () => (await import("./requests.js")).Requests) },
  { path: "metrics", title: "Metrics", page: lazy(async () => (await import("./metrics.js")).Metrics) },
  { path: "models", title: "Models", page: lazy(async () => (await import("./models.js")).Models) },
  { path: "access", title: "Access", page: lazy(async () => (await import("./access.js")).Access) },
];

const path = signal(location.hash);
addEventListener("hashchange", () => (path.value = location.hash));

/** @param {string} place */
function go(place) {
  location.hash = `#/${place}`;
}

function App() {
  const [name, ...rest] = path.value.replace(/^#\/?/, "").split("/");
  const shown = PAGES.find((one) => one.path === name) ?? PAGES[0];
  const argument = decodedPart(rest.join("/"));
  return html`
    <header>
      <a class="skip" href="#main" onClick=${skip}>Skip to the page</a>
      <h1>LeanVibe</h1>
      <nav aria-label="pages">${PAGES.map((one) => html`<a key=${one.path} href=${`#/${one.path}`} aria-current=${one === shown ? "page" : undefined}>${one.title}${one.page === Notifications && unread.value > 0 && html` <span class="badge" aria-label=${`${unread.value} unread`}>${unread.value}</span>`}</a>`)}</nav>
      <${Status} />
    </header>
    ${isOutdated.value && html`<p class="banner" role="alert">The server has a newer page than this one. <button type="button" onClick=${() => location.reload()}>Load it</button></p>`}
    <${Entered} />
    <${Remarks} />
    <main id="main" tabindex="-1">
      <h2 class="unseen">${shown.title}</h2>
      ${connection.value.state === "token" ? html`<${TokenForm} />` : html`<${Boundary} key=${shown.path}><${shown.page} name=${argument} go=${go} /><//>`}
    </main>`;
}

/** A page that fails is told with the rest still there, so that nobody sees nothing. */
class Boundary extends Component {
  /** @param {unknown} error */
  componentDidCatch(error) {
    console.warn(error);
    this.setState({ problem: error instanceof Error ? error.message : String(error) });
  }

  render() {
    const { problem } = /** @type {{problem?: string}} */ (this.state);
    if (problem === undefined) return this.props.children;
    return html`<div class="page"><p class="problem" role="alert">This page failed: ${problem}. <button type="button" onClick=${() => this.setState({ problem: undefined })}>Show it again</button> <button type="button" onClick=${() => location.reload()}>Load everything again</button></p></div>`;
  }
}

/** What is not as it should be around the page, and what that changes. */
function Remarks() {
  const minutes = Math.abs(minutesAhead.value);
  const off = minutes < 120 ? `${minutes} minutes` : `${Math.round(minutes / 60)} hours`;
  return html`${minutes > 0 && html`<p class="banner" role="status">The clock of this machine is ${off} ${minutesAhead.value > 0 ? "ahead of" : "behind"} the server's. Times that are shown here are the server's.</p>`}
    ${isForgetful.value && html`<p class="banner" role="status">This browser keeps nothing for this page: its storage is full or switched off. Everything works; what was not sent, and a token, are gone with this window.</p>`}`;
}

/** What became of a link that was good for once. */
function Entered() {
  const told = entry.value;
  if (told === null) return null;
  if ("problem" in told) return html`<p class="banner problem" role="alert">${told.problem} <button type="button" onClick=${() => (entry.value = null)}>Close</button></p>`;
  return html`<p class="banner" role="status">You are in as ${told.client}, until this window is closed. <button type="button" onClick=${keepEntry}>Stay in on this browser</button> <button type="button" class="quiet" onClick=${() => (entry.value = null)}>Close</button></p>`;
}

/** @param {Event} event */
function skip(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

/** @param {string} text */
function decodedPart(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** What the server last said of itself, and whether there is a connection to it. */
function Status() {
  const { state, problem } = connection.value;
  const words = {
    connecting: "connecting",
    connected: engine.value === null ? "connected" : `${engine.value.model ?? "no model"}: ${engine.value.state}`,
    waiting: `no connection, trying again${problem ? ` (${problem})` : ""}`,
    token: "a token is needed",
  }[state];
  const isGood = state === "connected" && (engine.value === null || engine.value.state === "ready");
  return html`<p class=${isGood ? "status good" : "status"} role="status">${words}</p>`;
}

const place = /** @type {HTMLElement} */ (document.getElementById("app"));
// What stands there says that the page is being loaded.
place.replaceChildren();
render(html`<${App} />`, place);
start();
