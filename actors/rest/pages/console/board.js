/** The page of the board: columns with their limits, tasks that are moved by drag, by buttons or by keys. */

import { add, columns, find, load, MOST_TASKS, move, pending, problem, project, said, showMore, title } from "./board_model.js";
import { html } from "./html.js";
import { connection } from "./session.js";
import { signal } from "./vendor/signals.js";
import { useEffect, useLayoutEffect, useState } from "./vendor/preact_hooks.js";

/**
 * @typedef {import("./leanvibe.js").Task} Task
 * @typedef {import("./leanvibe.js").BoardColumn} BoardColumn
 */

const dragged = signal("");
/** The control that has to have the focus again once a task stands elsewhere. */
let focusAfter = "";

/** @param {{name: string, go: (path: string) => void}} props `name` of the board in the address, empty for the usual one */
export function Board({ name, go }) {
  const isConnected = connection.value.state === "connected";
  useEffect(() => {
    if (isConnected) load(name);
  }, [name, isConnected]);
  useLayoutEffect(() => {
    if (focusAfter === "") return;
    document.getElementById(focusAfter)?.focus();
    focusAfter = "";
  }, [columns.value]);
  return html`<div class="page board-page">
    <form class="board-head" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <label>Board <input value=${project.value} maxlength="64" onChange=${(/** @type {Event} */ event) => {
        const wanted = /** @type {HTMLInputElement} */ (event.target).value.trim();
        if (wanted) go(`board/${encodeURIComponent(wanted)}`);
      }} /></label>
    </form>
    ${problem.value && html`<p class="problem" role="alert">${problem.value}</p>`}
    <p class="unseen" role="status">${said.value}</p>
    ${columns.value.length === 0 && html`<p class="note">The board is being read.</p>`}
    <div class="board">${columns.value.map((column, index) => html`<${Column} key=${column.status} column=${column} index=${index} />`)}</div>
    <p class="note">With the focus on a task, Shift and an arrow key move it.</p>
  </div>`;
}

/** @param {{column: BoardColumn, index: number}} props */
function Column({ column, index }) {
  const { status, tasks, count, limit } = column;
  const isFull = limit !== undefined && count >= limit;
  const more = count - tasks.length;
  const drop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    const cards = [.../** @type {HTMLElement} */ (event.currentTarget).querySelectorAll("[data-task]")];
    const others = cards.filter((one) => one.getAttribute("data-task") !== dragged.value);
    const below = others.findIndex((one) => {
      const box = one.getBoundingClientRect();
      return event.clientY < box.top + box.height / 2;
    });
    move(dragged.value, status, below < 0 ? others.length : below);
    dragged.value = "";
  };
  return html`<section class=${isFull ? "column full" : "column"} aria-labelledby=${`column-${status}`} data-column=${status}
    onDragOver=${(/** @type {DragEvent} */ event) => dragged.value !== "" && event.preventDefault()} onDrop=${drop}>
    <h3 id=${`column-${status}`}>${title(status)} <span class="count">${count}${limit !== undefined && ` of ${limit}`}</span></h3>
    <ul>${tasks.map((task, place) => html`<${Card} key=${task.id} task=${task} column=${index} place=${place} />`)}</ul>
    ${more > 0 && html`<p class="note">${more} more are not shown here${tasks.length >= MOST_TASKS && "; that is as many as fit. leanvibe task list finds the rest"}.
      ${tasks.length < MOST_TASKS && column.next_cursor !== undefined && html`<button type="button" class="quiet" aria-label=${`Show more of ${title(status)}`} onClick=${() => showMore(status)}>Show more</button>`}</p>`}
    <${Adder} column=${column} />
  </section>`;
}

/** @param {{task: Task, column: number, place: number}} props */
function Card({ task, column, place }) {
  const isPending = pending.value.has(task.id);
  const shift = (/** @type {number} */ sideways, /** @type {number} */ down, /** @type {string} */ control) => {
    const target = columns.value[column + sideways];
    if (target === undefined || find(task.id) === null) return;
    focusAfter = control;
    // Beside: as high as it stands now.
    move(task.id, target.status, sideways === 0 ? Math.max(0, place + down) : place);
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    const ways = /** @type {{[key: string]: number[]}} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });
    const way = ways[event.key];
    if (way === undefined || !event.shiftKey) return;
    event.preventDefault();
    shift(way[0], way[1], `task-${task.id}`);
  };
  const button = (/** @type {string} */ sign, /** @type {string} */ where, /** @type {number} */ sideways, /** @type {number} */ down) => {
    const control = `${where}-${task.id}`;
    return html`<button type="button" id=${control} aria-label=${`Move ${task.title} ${where}`} onClick=${() => shift(sideways, down, control)}>${sign}</button>`;
  };
  const last = columns.value.length - 1;
  return html`<li class=${isPending ? "card pending" : "card"} data-task=${task.id} draggable=${!isPending}
    onDragStart=${(/** @type {DragEvent} */ event) => { dragged.value = task.id; event.dataTransfer?.setData("text/plain", task.title); }}
    onDragEnd=${() => (dragged.value = "")}>
    <div tabindex="0" id=${`task-${task.id}`} role="group" aria-label=${task.title} aria-keyshortcuts="Shift+ArrowLeft Shift+ArrowRight Shift+ArrowUp Shift+ArrowDown" onKeyDown=${keys}>
      <p class="card-title">${task.title}</p>
      <p class="facts">${[task.priority, task.assignee, task.is_blocked && "blocked", task.requires_approval && "waits for a person", ...task.tags].filter(Boolean).join(" · ")}</p>
      ${task.ai_analysis && html`<details><summary>Analysis</summary><p class="verbatim">${task.ai_analysis}</p></details>`}
      ${task.ai_analysis_status === "pending" && html`<p class="note">being analysed</p>`}
    </div>
    <div class="moves">
      ${column > 0 && button("←", "left", -1, 0)}${column < last && button("→", "right", 1, 0)}
      ${button("↑", "up", 0, -1)}${button("↓", "down", 0, 1)}
    </div>
  </li>`;
}

/** @param {{column: BoardColumn}} props */
function Adder({ column }) {
  const [name, setName] = useState("");
  const send = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (name.trim() !== "" && (await add(name.trim(), column.status))) setName("");
  };
  return html`<form class="adder" onSubmit=${send}>
    <input aria-label=${`New task in ${title(column.status)}`} placeholder="New task" maxlength="255" value=${name}
      onInput=${(/** @type {Event} */ event) => setName(/** @type {HTMLInputElement} */ (event.target).value)} />
    <button type="submit" aria-label=${`Add to ${title(column.status)}`}>Add</button>
  </form>`;
}
