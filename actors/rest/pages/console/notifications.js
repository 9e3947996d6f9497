/** The page of the inbox. */

import { html } from "./html.js";
import { loadMore, markAllRead, markRead, next, notifications, problem, unread } from "./notifications_model.js";
import { clientId } from "./session.js";

export function Notifications() {
  return html`<div class="page">
    <div class="buttons inbox-head">
      <p role="status">${unread.value === 0 ? "Nothing is unread." : `${unread.value} unread.`}</p>
      ${unread.value > 0 && html`<button type="button" onClick=${markAllRead}>Mark all as read</button>`}
      <a href=${`/push?client=${encodeURIComponent(clientId())}`}>Show them in this browser while no page is open</a>
    </div>
    ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
    <ul class="inbox">${notifications.value.map((one) => html`<li key=${one.notification_id} class=${one.read_at ? "" : "unread"}>
      <h3>${one.title}${!one.read_at && html` <span class="unread-mark">unread</span>`}</h3>
      <p class="verbatim">${one.body}</p>
      <p class="facts"><time datetime=${one.created_at}>${new Date(one.created_at).toLocaleString()}</time> · ${one.priority} · ${one.kind}</p>
      ${!one.read_at && html`<button type="button" onClick=${() => markRead(one.notification_id)} aria-label=${`Mark as read: ${one.title}`}>Mark as read</button>`}
    </li>`)}</ul>
    ${notifications.value.length === 0 && html`<p class="note">There are no notifications.</p>`}
    ${next.value && html`<button type="button" onClick=${loadMore}>Show older ones</button>`}
  </div>`;
}
