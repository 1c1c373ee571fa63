// The threads, and what the one that is open holds: now and before.

import { TooLarge, call, join, search, stringify } from "./api.js";
import { about, chooseAssistant, wrong } from "./graphs.js";
import { $, attempt, failure, now, put, remember, sure, tell, turn, value, view } from "./page.js";
import { showTab } from "./panels.js";
import { follow, leave, showQuestions } from "./runs.js";
import { ago, button, few, h, isMessages, json, message, short, status } from "./show.js";

export const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const THREADS = 20;
export const STATES = 15;
const MOST_MESSAGES = 60;

export async function loadThreads(offset = 0) {
  const current = turn("threads");
  const given = $("find-text").value.trim();
  const query = { limit: THREADS, offset, sort_by: "updated_at", sort_order: "desc", select: ["thread_id", "status", "metadata", "updated_at"] };
  if ($("find-status").value) query.status = $("find-status").value;
  if (UUID.test(given)) query.ids = [given];
  else if (given) {
    const [name, ...rest] = given.split("=");
    query.metadata = { [name.trim()]: value(rest.join("=").trim()) };
  }
  const answer = await attempt(() => search("/threads/search", query), $("threads"));
  if (!answer || !current()) return;
  const { found, total } = answer;
  const rows = found.map(threadRow);
  if (offset) $("threads").lastElementChild.remove();
  else put($("threads"));
  $("threads").append(...rows);
  if (!offset && !rows.length) put($("threads"), h("li", { class: "hint" }, given || query.status ? "None that match." : "None yet."));
  const left = total - offset - found.length;
  if (left > 0) $("threads").append(h("li", {}, button(`${left.toLocaleString("en")} more`, () => loadThreads(offset + THREADS), { class: "more" })));
}

function threadRow(thread) {
  const graph = thread.metadata?.graph_id;
  const id = thread.thread_id;
  const open = button("", () => openThread(id), { "data-thread": id, "aria-current": String(id === now.thread) });
  open.append(
    h("span", { class: "name" }, short(id)), status(thread.status),
    h("span", { class: "hint" }, typeof graph === "string" ? `${graph.slice(0, 40)}, ` : "", ago(thread.updated_at)));
  const gone = button("×", () => deleteThread(id), { class: "quiet", "aria-label": `Delete thread ${id}`, title: "Delete" });
  return h("li", {}, open, gone);
}

export function newThread() {
  leave();
  now.thread = null;
  now.state = null;
  now.isPast = false;
  now.history = [];
  clearLog();
  showThread();
  remember();
}

export async function openThread(id) {
  leave();
  now.thread = id;
  now.isPast = false;
  clearLog();
  showThread();
  view("run");
  remember();
  const current = turn("thread");
  const thread = await attempt(() => call("GET", `/threads/${id}?select=status`));
  if (!thread || !current()) return;
  const wanted = thread.metadata?.assistant_id;
  const graph = thread.metadata?.graph_id;
  const assistant = now.assistants.find((each) => each.assistant_id === wanted) ?? now.assistants.find((each) => each.graph_id === graph);
  if (assistant && assistant !== now.assistant) await chooseAssistant(assistant, false);
  if (!current()) return;
  await refresh();
  if (thread.status === "busy" && current()) await followBusy(id);
}

// What goes on in a thread that somebody else has set to work.
export async function followBusy(id) {
  const runs = await attempt(() => call("GET", `/threads/${id}/runs?limit=5`));
  const busy = runs?.find((each) => each.status === "running") ?? runs?.find((each) => each.status === "pending");
  if (busy && now.thread === id && !now.run) {
    await follow((signal) => join(id, busy.run_id, signal), { thread_id: id, run_id: busy.run_id });
  }
}

export async function deleteThread(id) {
  if (!(await sure("Delete this thread?", `${id}: its states, its history and its runs go with it.`))) return;
  await attempt(async () => {
    await call("DELETE", `/threads/${id}`);
    tell("Thread deleted");
    if (now.thread === id) newThread();
  });
  await loadThreads();
}

function clearLog() {
  for (const each of ["messages", "values", "steps", "questions", "failure", "past"]) put($(each));
  $("past").hidden = true;
  wrong("");
}

export function showThread() {
  put($("title"), now.thread ? ["Thread ", short(now.thread)] : "New thread");
  $("delete").hidden = !now.thread;
  $("change").hidden = !now.thread || !now.state;
  for (const each of $("threads").querySelectorAll("[data-thread]")) {
    each.setAttribute("aria-current", String(each.dataset.thread === now.thread));
  }
  about();
  buttons();
}

export function buttons() {
  const waits = Boolean(now.state?.next?.length) && !questions(now.state).length;
  $("stop").hidden = !now.run;
  $("start").disabled = Boolean(now.run);
  $("go-on").hidden = !(now.thread && now.state && !now.run && (now.isPast || waits));
  $("start").textContent = now.isPast ? "Run from here" : "Run";
  const told = now.run ? "busy" : now.state && !now.isPast ? stateStatus(now.state) : null;
  put($("thread-status"), told && status(told));
}

const stateStatus = (state) => {
  if (questions(state).length) return "interrupted";
  if (state.tasks?.some((each) => each.error)) return "error";
  return "idle";
};

export function questions(state) {
  const own = state?.interrupts ?? [];
  return own.length ? own : (state?.tasks ?? []).flatMap((each) => each.interrupts ?? []);
}

// Read the thread's latest state and its history again.
export async function refresh() {
  const id = now.thread;
  const current = turn("state");
  const found = await attempt(() => Promise.all([
    call("GET", `/threads/${id}/state`),
    call("POST", `/threads/${id}/history`, { limit: STATES }).catch((error) => {
      if (!(error instanceof TooLarge)) throw error;
      return null;
    }),
  ]));
  if (!found || !current() || now.thread !== id) return;
  const [latest, history] = found;
  // Where they are too large together, there is the latest state alone.
  const states = history ?? (latest.checkpoint ? [latest] : []);
  // It knows of answers that are written down already; the history tells what was asked.
  if (latest.checkpoint && latest.checkpoint.checkpoint_id === states[0]?.checkpoint.checkpoint_id) states[0] = latest;
  now.history = states;
  now.isPast = false;
  showState(states[0] ?? null);
  if (["history", "runs"].includes(now.tab)) showTab();
}

function showState(state) {
  now.state = state;
  showValues(state?.values);
  showQuestions(state);
  const failed = (state?.tasks ?? []).filter((each) => each.error);
  if (failed.length && !now.run) put($("failure"), failed.slice(0, 5).map((each) => failure(each.name, words(each.error))));
  showPast();
  showThread();
  const marks = (state?.tasks ?? []).map((each) => [each.name, each.error ? "failed" : each.interrupts?.length ? "asks" : "next"]);
  now.graph?.mark(new Map(marks));
}

export const words = (error) => (typeof error === "string" ? error : error?.message ? `${error.error ?? "Error"}: ${error.message}` : stringify(error));

export function showValues(values) {
  if (values === null || values === undefined) {
    put($("messages"));
    put($("values"));
    return;
  }
  const isObject = typeof values === "object" && !Array.isArray(values);
  const chats = isObject ? Object.entries(values).filter(([, each]) => isMessages(each)) : [];
  const [name, messages] = chats.find(([each]) => each === "messages") ?? chats[0] ?? [];
  showMessages(messages ?? []);
  const others = isObject ? Object.fromEntries(Object.entries(values).filter(([each]) => each !== name)) : values;
  const some = !isObject || Object.keys(others).length;
  put($("values"), some && h("section", { class: "card" }, h("h3", {}, "State"), json(others, 2)));
  down();
}

function showMessages(messages) {
  const box = $("messages");
  const start = Math.max(0, messages.length - MOST_MESSAGES);
  const earlier = start ? button(`${start.toLocaleString("en")} earlier`, () => earlier.replaceWith(few(messages.slice(0, start), message)), { class: "more" }) : null;
  put(box, earlier, messages.slice(start).map(message));
  for (const [id, each] of now.run?.bubbles ?? []) {
    if (messages.some((one) => one.id === id)) now.run.bubbles.delete(id);
    else box.append(each.element);
  }
}

let isDown = true;
$("log").addEventListener("scroll", () => {
  const log = $("log");
  isDown = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
// Have the newest in sight again, wherever one had scrolled to.
export const stayDown = () => (isDown = true);
export const down = () => {
  if (isDown) $("log").scrollTop = $("log").scrollHeight;
};

export function showPast() {
  const place = now.history.findIndex((each) => each.checkpoint?.checkpoint_id === now.state?.checkpoint?.checkpoint_id);
  $("past").hidden = !now.isPast;
  put($("past"), now.isPast && [
    h("strong", {}, `Step ${now.state.metadata?.step ?? "?"}`),
    h("span", {}, "This is an earlier state. A run from here makes a branch, and leaves the others as they are."),
    h("span", { class: "space" }),
    button("Older", () => openState(now.history[place + 1]), { disabled: place + 1 >= now.history.length, class: "quiet" }),
    button("Newer", () => openState(now.history[place - 1]), { disabled: place < 1, class: "quiet" }),
    button("Latest", () => openState(now.history[0]), { class: "quiet" }),
  ]);
}

export function openState(state) {
  now.isPast = state !== now.history[0];
  put($("steps"));
  put($("failure"));
  showState(state);
  if (now.tab === "history") showTab();
}
