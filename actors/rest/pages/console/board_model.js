/** A board as this page has it. A move is shown at once and settled by what the server says of it. */

import { CommandFailed } from "./leanvibe.js";
import { onConnected, onEvent, server } from "./session.js";
import { batch, signal } from "./vendor/signals.js";

/**
 * @typedef {import("./leanvibe.js").Task} Task
 * @typedef {import("./leanvibe.js").TaskStatus} TaskStatus
 * @typedef {import("./leanvibe.js").BoardColumn} BoardColumn
 */

/** Of each column; the page says how many more there are. */
const COLUMN_TASKS = 50;
const TASK_EVENTS = new Set(["task_created", "task_updated", "task_moved", "task_blocked", "task_unblocked"]);

/** From left to right; empty until the first answer. */
export const columns = signal(/** @type {BoardColumn[]} */ ([]));
export const project = signal("");
export const problem = signal("");
/** What was done last, in words. */
export const said = signal("");
/** Ids of tasks of which the server has not said yet what became of their move. */
export const pending = signal(/** @type {ReadonlySet<string>} */ (new Set()));
let isOpen = false;
let reading = 0;

onConnected(() => {
  if (isOpen) load();
});

onEvent((event) => {
  if (!isOpen) return;
  const task = /** @type {Task | undefined} */ (event.data.task);
  if (event.type === "snapshot") load();
  else if (event.type === "task_deleted") remove(String(event.data.task_id));
  else if (TASK_EVENTS.has(event.type) && task !== undefined) put(task);
});

/** Reads the board; what is known of it stays until then. @param {string} [name] */
export async function load(name) {
  isOpen = true;
  const number = ++reading;
  try {
    const wanted = name || project.value;
    const board = await server().command("task_board", { limit: COLUMN_TASKS, ...(wanted && { project: wanted }) });
    if (number !== reading) return;
    batch(() => {
      project.value = board.project;
      columns.value = board.columns;
    });
  } catch (error) {
    if (error instanceof CommandFailed) problem.value = error.message;
  }
}

/** @param {string} id */
export function find(id) {
  for (const column of columns.value) {
    const index = column.tasks.findIndex((one) => one.id === id);
    if (index >= 0) return { task: column.tasks[index], column, index };
  }
  return null;
}

/** @param {string} id */
function remove(id) {
  columns.value = columns.value.map((column) => {
    const tasks = column.tasks.filter((one) => one.id !== id);
    return tasks.length === column.tasks.length ? column : { ...column, tasks, count: column.count - 1 };
  });
}

/**
 * Puts a task where the server has it; an older version than the one that is shown changes nothing.
 * @param {Task} task
 */
function put(task) {
  const known = find(task.id)?.task;
  if (known !== undefined && (known.version > task.version || pending.value.has(task.id))) return;
  batch(() => {
    remove(task.id);
    if (task.project !== project.value) return;
    columns.value = columns.value.map((column) => {
      if (column.status !== task.status) return column;
      // Positions are compared byte by byte; they are ASCII.
      const index = column.tasks.findIndex((one) => one.position > task.position);
      const at = index < 0 ? column.tasks.length : index;
      return { ...column, tasks: column.tasks.toSpliced(at, 0, task), count: column.count + 1 };
    });
  });
}

/**
 * Moves a task to a place among the others of a column: shown at once, put back where the server refuses it.
 * @param {string} id
 * @param {TaskStatus} status
 * @param {number} index among the tasks there, itself left out
 */
export async function move(id, status, index) {
  const found = find(id);
  const target = columns.value.find((one) => one.status === status);
  if (found === null || target === undefined || pending.value.has(id)) return;
  const others = target.tasks.filter((one) => one.id !== id);
  const at = Math.max(0, Math.min(index, others.length));
  const { task } = found;
  batch(() => {
    problem.value = "";
    pending.value = new Set([...pending.value, id]);
    remove(id);
    columns.value = columns.value.map((column) =>
      column.status === status ? { ...column, tasks: others.toSpliced(at, 0, { ...task, status }), count: column.count + 1 } : column,
    );
  });
  const place = at < others.length ? { before: others[at].id } : at > 0 ? { after: others[at - 1].id } : {};
  try {
    const settled = await server().command("task_move", { task_id: id, version: task.version, status, ...place });
    release(id);
    put(settled);
    said.value = `${task.title}: now in ${title(status)}`;
  } catch (error) {
    release(id);
    problem.value = `${task.title} was not moved: ${/** @type {Error} */ (error).message}`;
    // Whatever is true now, the server knows it.
    await load();
  }
}

/** @param {string} id */
function release(id) {
  pending.value = new Set([...pending.value].filter((one) => one !== id));
}

/**
 * @param {string} name
 * @param {TaskStatus} status
 * @returns {Promise<boolean>} whether it was made
 */
export async function add(name, status) {
  problem.value = "";
  try {
    put(await server().command("task_create", { title: name, status, project: project.value }));
    said.value = `${name}: added`;
    return true;
  } catch (error) {
    problem.value = /** @type {Error} */ (error).message;
    return false;
  }
}

/** @param {TaskStatus} status */
export function title(status) {
  return { backlog: "Backlog", todo: "To do", in_progress: "In progress", testing: "Testing", done: "Done" }[status];
}
