/** A board as this page has it. A move is shown at once and settled by what the server says of it. */

import { CommandFailed } from "./leanvibe.js";
import { connection, onConnected, onEvent, server } from "./session.js";
import { batch, signal } from "./vendor/signals.js";

/**
 * @typedef {import("./leanvibe.js").Task} Task
 * @typedef {import("./leanvibe.js").TaskStatus} TaskStatus
 * @typedef {import("./leanvibe.js").BoardColumn} BoardColumn
 */

/** Of each column that are read at once; the page says how many more there are. */
const COLUMN_TASKS = 50;
/** Of each column that one reading of a board can have. */
const MOST_READ = 100;
/** Of each column that are shown at most, however many there are. */
export const MOST_TASKS = 200;
const RELOAD_MS = 250;
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
let isReading = false;
/** Whether an event came while a board was being read, which may or may not be in what was read. */
let hasMissed = false;
let isReloading = false;

onConnected(() => {
  if (isOpen) load();
});

onEvent((event) => {
  if (!isOpen) return;
  const task = /** @type {Task | undefined} */ (event.data.task);
  if (event.type === "snapshot") load();
  else if (event.type === "task_deleted") follow(String(event.data.task_id), (id) => remove(id));
  else if (event.type === "task_created" && task !== undefined) follow(null, () => put(task));
  else if (TASK_EVENTS.has(event.type) && task !== undefined) follow(task.id, () => put(task));
});

/**
 * Does what an event says, where this page can know what that comes to: of a task that is not shown it does not know the column.
 * @param {string | null} id null for a task that is new
 * @param {(id: string) => void} change
 */
function follow(id, change) {
  hasMissed ||= isReading;
  const hasHidden = columns.value.some((column) => column.count > column.tasks.length);
  if (id !== null && hasHidden && find(id) === null) reloadSoon();
  else change(id ?? "");
}

/** Reads the board; what is known of it stays until then. @param {string} [name] */
export async function load(name) {
  isOpen = true;
  const number = ++reading;
  isReading = true;
  hasMissed = false;
  try {
    const wanted = name || project.value;
    const shown = Math.max(COLUMN_TASKS, ...columns.value.map((one) => one.tasks.length));
    const limit = Math.min(shown, MOST_READ);
    const board = await server().command("task_board", { limit, ...(wanted && { project: wanted }) });
    if (number !== reading) return;
    batch(() => {
      project.value = board.project;
      columns.value = board.columns;
    });
    if (hasMissed) reloadSoon();
  } catch (error) {
    if (error instanceof CommandFailed) problem.value = error.message;
  } finally {
    if (number === reading) isReading = false;
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
    if (tasks.length === column.tasks.length) return column;
    // Those that follow are not known here.
    if (tasks.length < COLUMN_TASKS / 2 && column.count - 1 > tasks.length) reloadSoon();
    return { ...column, tasks, count: column.count - 1 };
  });
}

/** However many tasks go at once, the board is read once for them. */
function reloadSoon() {
  if (isReloading) return;
  isReloading = true;
  setTimeout(() => {
    isReloading = false;
    load();
  }, RELOAD_MS);
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
      // Behind the last one that is known it is among those that are not shown.
      if (index < 0 && column.count > column.tasks.length) return { ...column, count: column.count + 1 };
      const at = index < 0 ? column.tasks.length : index;
      return cut({ ...column, tasks: column.tasks.toSpliced(at, 0, task), count: column.count + 1 });
    });
  });
}

/** No more than are shown; where some were cut off, none can be read behind them. @param {BoardColumn} column @returns {BoardColumn} */
function cut(column) {
  if (column.tasks.length <= MOST_TASKS) return column;
  const { next_cursor: _, ...rest } = column;
  return { ...rest, tasks: column.tasks.slice(0, MOST_TASKS) };
}

/** Reads more tasks of a column, behind those that are shown. @param {TaskStatus} status */
export async function showMore(status) {
  const number = reading;
  const column = columns.value.find((one) => one.status === status);
  if (column?.next_cursor === undefined) return;
  problem.value = "";
  try {
    const page = await server().command("task_list", {
      project: project.value, status: [status], sort: "position", order: "ascending", limit: COLUMN_TASKS, cursor: column.next_cursor,
    });
    if (number !== reading) return;
    columns.value = columns.value.map((one) => {
      if (one.status !== status) return one;
      const known = new Set(one.tasks.map((task) => task.id));
      const { next_cursor: _, ...rest } = one;
      return cut({ ...rest, tasks: [...one.tasks, ...page.tasks.filter((task) => !known.has(task.id))], ...(page.next_cursor && { next_cursor: page.next_cursor }) });
    });
  } catch (error) {
    problem.value = /** @type {Error} */ (error).message;
  }
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
  if (isAway()) return;
  const others = target.tasks.filter((one) => one.id !== id);
  const at = Math.max(0, Math.min(index, others.length));
  const { task } = found;
  batch(() => {
    problem.value = "";
    pending.value = new Set([...pending.value, id]);
    remove(id);
    columns.value = columns.value.map((column) =>
      column.status === status ? cut({ ...column, tasks: others.toSpliced(at, 0, { ...task, status }), count: column.count + 1 }) : column,
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
  if (isAway()) return false;
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

/** Whether nobody can be asked now, which is told: a change that waits for a server would be a surprise when it comes. */
function isAway() {
  if (connection.value.state === "connected") return false;
  problem.value = "There is no connection to the server, so the board was not changed.";
  return true;
}

/** @param {TaskStatus} status */
export function title(status) {
  return { backlog: "Backlog", todo: "To do", in_progress: "In progress", testing: "Testing", done: "Done" }[status];
}
