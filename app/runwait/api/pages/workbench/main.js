// The workbench: one page with graphs, threads, runs and what becomes of them.

import { ApiError, TooLarge, call, hasKey, join, onKeyNeeded, parse, search, setKey, stream, stringify } from "./api.js";
import { drawing } from "./drawing.js";
import { FieldError, form, parsed } from "./form.js";
import { ago, button, few, h, isMessages, json, message, short, status, text } from "./show.js";

const $ = (id) => document.getElementById(id);
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const THREADS = 20;
const STATES = 15;
const MOST_STEPS = 100;
const MOST_MESSAGES = 60;
// Of a message that is being written.
const MOST_TOKENS = 100_000;
const MODES = ["values", "tasks", "messages-tuple", "custom"];

const now = {
  assistants: [],
  assistant: null,
  graph: null, // its drawing
  input: null, // its form
  context: null,
  isJson: false,
  thread: null,
  state: null, // what is shown of the thread
  isPast: false, // it is not the latest state
  history: [],
  run: null, // the run that is followed: {ids, controller, ...}
  tab: "graph",
};

const put = (element, ...children) => element.replaceChildren(...children.flat().filter(Boolean));
const tell = (words) => ($("told").textContent = words);
// Answers that come after the question has changed are of no interest.
const turns = {};
const turn = (name) => {
  const mine = (turns[name] = (turns[name] ?? 0) + 1);
  return () => turns[name] === mine;
};

// Do something, and say what went wrong.
async function attempt(work, where = $("failure")) {
  try {
    return await work();
  } catch (error) {
    if (error?.name === "AbortError") return undefined;
    put(where, failure(error instanceof ApiError ? `Status ${error.status}` : error?.name ?? "Error", error?.message ?? String(error)));
    return undefined;
  }
}

const failure = (name, words) => h("div", { class: "card failed" }, h("h3", {}, text(String(name), "")), h("p", {}, text(String(words ?? ""))));

// ---- Graphs

async function loadAssistants() {
  const { found } = await search("/assistants/search", { limit: 1000, sort_by: "name", sort_order: "asc" });
  now.assistants = found;
  put($("assistants"), found.map((each) => {
    const more = [each.name !== each.graph_id && each.graph_id, each.description].filter(Boolean).join(": ");
    const choose = button("", () => chooseAssistant(each), { "data-id": each.assistant_id, title: more.slice(0, 500) });
    choose.append(h("span", { class: "name" }, each.name || each.graph_id), h("span", { class: "hint" }, more.slice(0, 200)));
    return h("li", {}, choose);
  }));
  const wanted = now.assistant?.assistant_id ?? new URLSearchParams(location.hash.slice(1)).get("assistant");
  const first = found.find((each) => each.assistant_id === wanted) ?? found[0];
  if (first && !now.assistant) await chooseAssistant(first, false);
}

async function chooseAssistant(assistant, fresh = true) {
  now.assistant = assistant;
  const current = turn("assistant");
  for (const each of $("assistants").querySelectorAll("[data-id]")) {
    each.setAttribute("aria-current", String(each.dataset.id === assistant.assistant_id));
  }
  if (fresh) {
    newThread();
    view("run");
  }
  about();
  const path = `/assistants/${encodeURIComponent(assistant.assistant_id)}`;
  const [schemas, graph] = await Promise.all([
    attempt(() => call("GET", `${path}/schemas`)),
    attempt(() => call("GET", `${path}/graph?xray=true`)),
  ]);
  if (!current()) return;
  now.graph = graph ? drawing(graph) : null;
  makeForms(schemas ?? {});
  if (now.tab === "graph") showTab();
}

function about() {
  const { name, graph_id, description } = now.assistant ?? {};
  $("about").textContent = now.thread || !now.assistant ? "" : description || `The graph ${graph_id ?? name}.`;
}

function makeForms(schemas) {
  now.input = form(schemas.input_schema, { onSend: () => $("input").requestSubmit() });
  put($("fields"), now.input.element);
  jsonMode(now.input.isJson);
  $("as-form").disabled = now.input.isJson;
  const schema = schemas.context_schema ?? {};
  const some = Object.keys(schema.properties ?? {}).length > 0;
  now.context = some ? form(schema, {}) : null;
  $("context-fold").hidden = !some;
  put($("context"), now.context?.element);
}

// The input as JSON, or as the form made from the schema.
function jsonMode(isJson) {
  now.isJson = isJson;
  $("as-form").setAttribute("aria-pressed", String(!isJson));
  $("as-json").setAttribute("aria-pressed", String(isJson));
}

function switchMode(toJson) {
  wrong("");
  if (toJson === now.isJson) return;
  try {
    if (toJson) {
      const value = now.input.get();
      const area = h("textarea", { id: "input-json", class: "code", rows: 6, spellcheck: "false", "aria-label": "Input as JSON" });
      area.value = stringify(value ?? null, 2);
      put($("fields"), area);
    } else {
      if (!now.input.set(parsed($("input-json")))) {
        wrong("The form cannot show this input; it stays JSON.");
        return;
      }
      put($("fields"), now.input.element);
    }
    jsonMode(toJson);
  } catch (error) {
    wrong(error);
  }
}

const givenInput = () => ($("input-json") ? parsed($("input-json")) : now.input?.get());

function wrong(error) {
  for (const each of document.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  $("wrong").textContent = error instanceof Error ? error.message : error;
  if (error instanceof FieldError) {
    const label = document.querySelector(`label[for="${CSS.escape(error.element.id)}"] .name`)?.textContent;
    $("wrong").textContent = [label ?? error.element.getAttribute("aria-label"), error.message].filter(Boolean).join(" ");
    error.element.setAttribute("aria-invalid", "true");
    error.element.focus();
  }
}

// ---- Threads

async function loadThreads(offset = 0) {
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

function value(given) {
  try {
    return parse(given);
  } catch {
    return given;
  }
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

function newThread() {
  leave();
  now.thread = null;
  now.state = null;
  now.isPast = false;
  now.history = [];
  clearLog();
  showThread();
  remember();
}

async function openThread(id) {
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
async function followBusy(id) {
  const runs = await attempt(() => call("GET", `/threads/${id}/runs?limit=5`));
  const busy = runs?.find((each) => each.status === "running") ?? runs?.find((each) => each.status === "pending");
  if (busy && now.thread === id && !now.run) {
    await follow((signal) => join(id, busy.run_id, signal), { thread_id: id, run_id: busy.run_id });
  }
}

async function sure(what, why) {
  $("sure-what").textContent = what;
  $("sure-why").textContent = why;
  const dialog = $("sure");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}

async function deleteThread(id) {
  if (!(await sure("Delete this thread?", `${id}: its states, its history and its runs go with it.`))) return;
  await attempt(async () => {
    await call("DELETE", `/threads/${id}`);
    tell("Thread deleted");
    if (now.thread === id) newThread();
  });
  await loadThreads();
}

// ---- What a thread holds

function clearLog() {
  for (const each of ["messages", "values", "steps", "questions", "failure", "past"]) put($(each));
  $("past").hidden = true;
  wrong("");
}

function showThread() {
  put($("title"), now.thread ? ["Thread ", short(now.thread)] : "New thread");
  $("delete").hidden = !now.thread;
  $("change").hidden = !now.thread || !now.state;
  for (const each of $("threads").querySelectorAll("[data-thread]")) {
    each.setAttribute("aria-current", String(each.dataset.thread === now.thread));
  }
  about();
  buttons();
}

function buttons() {
  const waits = Boolean(now.state?.next?.length) && !questions(now.state).length;
  $("stop").hidden = !now.run;
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

function questions(state) {
  const own = state?.interrupts ?? [];
  return own.length ? own : (state?.tasks ?? []).flatMap((each) => each.interrupts ?? []);
}

// Read the thread's latest state and its history again.
async function refresh() {
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

const words = (error) => (typeof error === "string" ? error : error?.message ? `${error.error ?? "Error"}: ${error.message}` : stringify(error));

function showValues(values) {
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
const down = () => {
  if (isDown) $("log").scrollTop = $("log").scrollHeight;
};

// ---- Earlier states

function showPast() {
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

function openState(state) {
  now.isPast = state !== now.history[0];
  put($("steps"));
  put($("failure"));
  showState(state);
  if (now.tab === "history") showTab();
}

function historyPanel() {
  if (!now.thread) return [h("p", { class: "hint" }, "A thread's states, once it has some.")];
  const list = h("ol", { class: "states" }, now.history.map(stateRow));
  const more = button("Earlier states", async () => {
    const before = now.history[now.history.length - 1].checkpoint.checkpoint_id;
    const found = await attempt(() => call("POST", `/threads/${now.thread}/history`, { limit: STATES, before }));
    if (!found) return;
    now.history.push(...found);
    showTab();
    showPast();
  }, { class: "more" });
  const isWhole = now.history.length % STATES !== 0 || !now.history.length;
  return [h("p", { class: "hint" }, "Newest first. Open one to see it, and to run from there."), list, isWhole ? null : more];
}

function stateRow(state, place) {
  const parent = state.parent_checkpoint?.checkpoint_id;
  const older = now.history[place + 1];
  const forks = older && parent && parent !== older.checkpoint.checkpoint_id;
  const from = forks ? now.history.find((each) => each.checkpoint.checkpoint_id === parent) : null;
  const isShown = state.checkpoint.checkpoint_id === now.state?.checkpoint?.checkpoint_id;
  const next = (state.next ?? []).join(", ");
  return h("li", {}, h("button", { type: "button", "aria-current": String(isShown), onclick: () => openState(state) },
    h("span", { class: "step" }, String(state.metadata?.step ?? "")),
    h("span", { class: "name" }, next === "__start__" ? "input" : next ? `before ${next.slice(0, 80)}` : "at the end"),
    h("span", { class: "hint" },
      state.metadata?.source ?? "", forks ? ` · branch of step ${from?.metadata?.step ?? "?"}` : "",
      questions(state).length ? " · asks" : "", " · ", ago(state.created_at))));
}

// ---- Runs

// Start a run; gives whether it was accepted.
async function start(asked, sent = () => {}) {
  wrong("");
  if (!now.assistant || now.run) return false;
  let body;
  try {
    body = { assistant_id: now.assistant.assistant_id, ...asked() };
    const context = now.context?.get();
    if (context && Object.keys(context).length) body.context = context;
    const extra = parsed($("extra"));
    if (extra !== undefined && (extra === null || typeof extra !== "object" || Array.isArray(extra))) {
      throw new FieldError($("extra"), "must be an object");
    }
    Object.assign(body, extra);
  } catch (error) {
    wrong(error);
    return false;
  }
  sent();
  if (now.isPast) body.checkpoint = { checkpoint_id: now.state.checkpoint.checkpoint_id };
  Object.assign(body, { stream_mode: MODES, stream_subgraphs: true, stream_resumable: true, on_disconnect: "continue" });
  if (!now.thread) {
    const made = await attempt(() => call("POST", "/threads", { metadata: { graph_id: now.assistant.graph_id, assistant_id: now.assistant.assistant_id } }));
    if (!made) return false;
    now.thread = made.thread_id;
    remember();
    showThread();
  }
  const id = now.thread;
  return follow((signal) => stream(`/threads/${id}/runs/stream`, body, signal), { thread_id: id });
}

// Show a run as it goes on, until its end or until another thread is looked at. Gives whether it began.
async function follow(open, ids) {
  const run = { ids, controller: new AbortController(), bubbles: new Map(), steps: new Map(), marks: new Map(), status: null };
  now.run = run;
  now.isPast = false;
  for (const each of ["steps", "questions", "failure"]) put($(each));
  $("past").hidden = true;
  put($("steps"), run.list = h("ol", { class: "steps" }));
  isDown = true;
  buttons();
  now.graph?.mark(run.marks);
  tell("Running");
  await attempt(async () => {
    for await (const event of open(run.controller.signal)) {
      if (now.run !== run) return;
      handle(run, event);
    }
  });
  const began = Boolean(run.ids.run_id);
  if (now.run !== run) return began;
  now.run = null;
  for (const each of run.list.querySelectorAll('[data-status="running"]')) each.dataset.status = "stopped";
  tell(run.status ? `Run: ${run.status}` : "");
  const shown = [...$("failure").childNodes];
  await refresh();
  if (shown.length && now.thread === run.ids.thread_id) put($("failure"), shown);
  if (run.list.childElementCount && now.thread === run.ids.thread_id && !now.run) put($("steps"), done(run));
  buttons();
  down();
  await loadThreads();
  if (now.tab === "graph" && !now.run && !now.state?.next?.length) now.graph?.mark(run.marks);
  return began;
}

// The steps of a run that ended, folded up where the state says the same.
function done(run) {
  const count = run.list.childElementCount;
  return h("details", { class: "card", open: !$("messages").childElementCount },
    h("summary", {}, `${count} ${count === 1 ? "step" : "steps"} of the last run`), run.list);
}

function leave() {
  now.run?.controller.abort();
  now.run = null;
  turn("thread");
  turn("state");
}

function handle(run, { event, data, size }) {
  const [name, ...path] = event.split("|");
  const within = path.map((each) => each.split(":")[0]);
  if (size) {
    note(run, `${name}: ${(size / 1e6).toFixed(1)} million characters, not shown`);
    return;
  }
  switch (name) {
    case "metadata":
      Object.assign(run.ids, data?.run_id && { run_id: data.run_id });
      if (data?.attempt > 1) note(run, `Another process goes on with it: attempt ${data.attempt}`);
      break;
    case "values":
      if (!path.length) showValues(withoutQuestions(data));
      break;
    case "tasks":
      step(run, within, data);
      break;
    case "messages":
      token(run, within, data);
      break;
    case "custom":
      note(run, "custom", data);
      break;
    case "error":
      put($("failure"), failure(data?.error ?? "Error", data?.message ?? ""));
      break;
    case "end":
      run.status = data?.status ?? null;
  }
  down();
}

const withoutQuestions = (values) => {
  if (values === null || typeof values !== "object" || Array.isArray(values)) return values;
  return Object.fromEntries(Object.entries(values).filter(([each]) => each !== "__interrupt__"));
};

function row(run, element) {
  run.list.append(element);
  if (run.list.childElementCount > MOST_STEPS) run.list.firstElementChild.remove();
  return element;
}

function note(run, words, value) {
  const told = value === undefined ? null : json(value, 0);
  row(run, h("li", { "data-status": "note" }, h("span", { class: "name" }, words), told));
}

function step(run, within, data) {
  if (!data || typeof data !== "object") return;
  const id = [...within, data.name].join(":");
  if ("result" in data || "error" in data) {
    const known = run.steps.get(data.id);
    const how = data.error ? "failed" : data.interrupts?.length ? "asks" : "done";
    run.marks.set(id, how);
    now.graph?.mark(run.marks);
    if (!known) return;
    known.element.dataset.status = how;
    known.time.textContent = `${((performance.now() - known.began) / 1000).toFixed(1)} s`;
    known.element.append(json(data.error ? { error: data.error } : data.interrupts?.length ? { interrupts: data.interrupts } : data.result ?? null, 0));
    run.steps.delete(data.id);
  } else {
    const time = h("span", { class: "hint" });
    const element = row(run, h("li", { "data-status": "running" }, h("span", { class: "name" }, [...within, data.name].join(" › ")), " ", time));
    run.steps.set(data.id, { element, time, began: performance.now() });
    run.marks.set(id, "running");
    now.graph?.mark(run.marks);
  }
}

// A piece of a message, or one that came whole.
function token(run, within, data) {
  const [piece] = Array.isArray(data) ? data : [];
  if (!piece?.id) return;
  let bubble = run.bubbles.get(piece.id);
  if (!bubble) {
    const element = message({ ...piece, content: "" });
    bubble = { element, content: element.querySelector(".content"), length: 0 };
    element.classList.add("live");
    run.bubbles.set(piece.id, bubble);
    $("messages").append(element);
    while (run.bubbles.size > MOST_MESSAGES) {
      const [oldest, { element: gone }] = run.bubbles.entries().next().value;
      gone.remove();
      run.bubbles.delete(oldest);
    }
  }
  const blocks = typeof piece.content === "string" ? [piece.content] : Array.isArray(piece.content) ? piece.content : [];
  const more = blocks.map((each) => (typeof each === "string" ? each : typeof each?.text === "string" ? each.text : "")).join("");
  if (!more || bubble.length >= MOST_TOKENS) return;
  bubble.length += more.length;
  bubble.content.append(more.slice(0, MOST_TOKENS));
  if (bubble.length >= MOST_TOKENS) bubble.content.append(" …");
}

async function stop() {
  const { thread_id: thread, run_id: id } = now.run?.ids ?? {};
  if (id) await attempt(() => call("POST", `/threads/${thread}/runs/${id}/cancel`));
}

// ---- Interrupts

function showQuestions(state) {
  const asked = questions(state);
  const answers = [];
  put($("questions"), asked.map((each, place) => {
    const id = `answer-${place}`;
    const area = h("textarea", { id, rows: 2, spellcheck: "false", onkeydown: (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
    } });
    const kind = h("select", { "aria-label": "The answer is" }, h("option", { value: "json" }, "JSON, else text"), h("option", { value: "text" }, "text"));
    answers.push({ id: each.id, area, kind });
    return h("section", { class: "card asks" },
      h("h3", {}, asked.length > 1 ? `Question ${place + 1} of ${asked.length}` : "The graph asks"),
      typeof each.value === "string" ? h("p", {}, text(each.value)) : json(each.value, 2),
      h("label", { for: id }, "Answer"), area,
      h("div", { class: "buttons" }, kind, place === asked.length - 1 && button(asked.length > 1 ? "Answer all that are filled in" : "Answer", () => send(), { class: "main" })));
  }));
  const send = () => {
    const given = answers.filter((each) => each.area.value.trim() || asked.length === 1);
    if (!given.length) {
      answers[0].area.focus();
      return;
    }
    const one = ({ area, kind }) => (kind.value === "text" ? area.value : value(area.value));
    const resume = asked.length === 1 ? one(given[0]) : Object.fromEntries(given.map((each) => [each.id, one(each)]));
    if (resume === null) {
      wrong("null is no answer");
      return;
    }
    start(() => ({ command: { resume } }));
  };
}

// ---- The panel beside it

async function showTab() {
  for (const each of document.querySelectorAll("[role=tab]")) {
    const chosen = each.id === `tab-${now.tab}`;
    each.setAttribute("aria-selected", String(chosen));
    each.tabIndex = chosen ? 0 : -1;
  }
  $("panel").setAttribute("aria-labelledby", `tab-${now.tab}`);
  const current = turn("tab");
  const panels = { graph: graphPanel, history: historyPanel, runs: runsPanel, crons: cronsPanel, webhooks: webhooksPanel };
  const made = await attempt(async () => panels[now.tab](), $("panel"));
  if (made && current()) put($("panel"), made);
}

function graphPanel() {
  if (!now.graph) return [h("p", { class: "hint" }, "No drawing of this graph.")];
  return [now.graph.element, h("p", { class: "hint" }, "Dashed edges are taken sometimes.")];
}

async function runsPanel() {
  if (now.thread) {
    const runs = await call("GET", `/threads/${now.thread}/runs?limit=50&select=run_id&select=thread_id&select=status&select=created_at&select=multitask_strategy`);
    return [h("p", { class: "hint" }, "Of this thread, newest first."), table(runs, runRow)];
  }
  const { found } = await search("/threads/search", { limit: 10, sort_by: "updated_at", sort_order: "desc", select: ["thread_id"] });
  const lists = await Promise.all(found.map((each) => call("GET", `/threads/${each.thread_id}/runs?limit=3`).catch(() => [])));
  const runs = lists.flat().sort((a, b) => b.created_at.localeCompare(a.created_at));
  return [h("p", { class: "hint" }, "Of the threads that were used last."), table(runs, runRow)];
}

function table(items, make) {
  return items.length ? h("ul", { class: "rows" }, few(items, make)) : h("p", { class: "hint" }, "None.");
}

function runRow(run) {
  const path = `/threads/${run.thread_id}/runs/${run.run_id}`;
  const isActive = ["pending", "running"].includes(run.status);
  return h("li", {},
    h("div", {}, short(run.run_id), " ", status(run.status), " ", h("span", { class: "hint" }, ago(run.created_at))),
    h("div", { class: "buttons" },
      run.thread_id !== now.thread && button("Open", () => openThread(run.thread_id), { class: "quiet" }),
      isActive && run.thread_id === now.thread && !now.run && button("Follow", () => followBusy(run.thread_id), { class: "quiet" }),
      isActive && button("Cancel", () => attempt(() => call("POST", `${path}/cancel?wait=true`)).then(showTab), { class: "quiet" }),
      !isActive && button("Delete", () => deleteRun(run, path), { class: "quiet", "aria-label": `Delete run ${run.run_id}` }),
      button("Details", async (event) => {
        const whole = await attempt(() => call("GET", path));
        if (whole) event.target.closest("li").append(json(whole, 1));
        event.target.remove();
      }, { class: "quiet" })));
}

async function deleteRun(run, path) {
  if (!(await sure("Delete this run?", `${run.run_id}: what it did to its thread stays.`))) return;
  await attempt(() => call("DELETE", path));
  await showTab();
}

async function cronsPanel() {
  const { found } = await search("/runs/crons/search", { limit: 100 });
  return [h("p", { class: "hint" }, "Runs that start by the clock."), table(found, (each) => {
    const graph = now.assistants.find((one) => one.assistant_id === each.assistant_id)?.name ?? each.assistant_id;
    return h("li", {},
      h("div", {}, h("code", {}, text(String(each.schedule), "")), " ", text(String(each.timezone ?? ""), "hint"), " ", text(String(graph), "name")),
      h("div", { class: "hint" }, each.enabled === false ? "off" : each.next_run_date ? `next at ${each.next_run_date}` : "no further run"),
      h("div", { class: "buttons" },
        each.thread_id && button("Open thread", () => openThread(each.thread_id), { class: "quiet" }),
        button(each.enabled === false ? "Turn on" : "Turn off", () => attempt(() => call("PATCH", `/runs/crons/${each.cron_id}`, { enabled: each.enabled === false })).then(showTab), { class: "quiet" }),
        button("Delete", async () => {
          if (!(await sure("Delete this cron?", `${each.schedule}, ${graph}`))) return;
          await attempt(() => call("DELETE", `/runs/crons/${each.cron_id}`));
          await showTab();
        }, { class: "quiet" })),
      json(each, 0));
  })];
}

async function webhooksPanel() {
  const found = await call("GET", "/webhooks/dead?limit=100");
  return [h("p", { class: "hint" }, "Webhooks that were given up after many attempts."), table(found, (each) =>
    h("li", {},
      h("div", {}, text(String(each.url), "name")),
      h("div", { class: "hint" }, `${each.attempts} attempts, given up `, ago(each.died_at), ", run ", short(each.run_id)),
      h("div", {}, text(String(each.error), "error-text")),
      h("div", { class: "buttons" }, button("Try again", () => attempt(async () => {
        await call("POST", `/webhooks/dead/${each.run_id}/retry`);
        tell("To be tried again");
      }).then(showTab), { class: "quiet" }))))];
}

// ---- The page

function view(name) {
  document.body.dataset.view = name;
  for (const each of document.querySelectorAll(".switch button")) {
    each.setAttribute("aria-pressed", String(each.dataset.view === name));
  }
}

// What is looked at is in the address, so that it can be loaded again.
function remember() {
  const part = new URLSearchParams();
  if (now.assistant) part.set("assistant", now.assistant.assistant_id);
  if (now.thread) part.set("thread", now.thread);
  history.replaceState(null, "", `#${part}`);
}

onKeyNeeded(async (why) => {
  const dialog = $("ask-key");
  $("ask-key-why").textContent = why.slice(0, 300);
  $("key-value").value = "";
  dialog.returnValue = "cancel";
  if (!dialog.open) dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "use" || !$("key-value").value) return null;
  setKey($("key-value").value, $("key-header").value);
  $("key-value").value = "";
  $("key").textContent = "Forget key";
  return true;
});

// Enter in the field is the first button that submits, which is the one to cancel.
$("key-value").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  $("ask-key").close("use");
});
$("key").addEventListener("click", () => {
  if (hasKey()) {
    setKey(null);
    location.reload();
    return;
  }
  const dialog = $("ask-key");
  $("ask-key-why").textContent = "If this server wants one.";
  dialog.returnValue = "cancel";
  dialog.showModal();
  dialog.addEventListener("close", () => {
    if (dialog.returnValue !== "use" || !$("key-value").value) return;
    setKey($("key-value").value, $("key-header").value);
    location.reload();
  }, { once: true });
});

$("as-form").addEventListener("click", () => switchMode(false));
$("as-json").addEventListener("click", () => switchMode(true));
$("new-thread").addEventListener("click", () => {
  newThread();
  view("run");
});
$("delete").addEventListener("click", () => deleteThread(now.thread));
$("stop").addEventListener("click", stop);
$("go-on").addEventListener("click", () => start(() => ({ input: null })));
$("input").addEventListener("submit", (event) => {
  event.preventDefault();
  // A message that was sent is not sent again; other input may well be.
  const chat = $("fields").querySelector("textarea.chat");
  const said = chat?.value;
  start(() => ({ input: givenInput() ?? null }), () => chat && (chat.value = "")).then((accepted) => {
    if (!accepted && chat && !chat.value) chat.value = said;
  });
});
$("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("input").requestSubmit();
});
$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  loadThreads();
});
$("find-status").addEventListener("change", () => loadThreads());
$("find-text").addEventListener("search", () => loadThreads());

$("change").addEventListener("click", () => {
  $("change-values").value = "{}";
  $("change-wrong").textContent = "";
  const names = (now.graph?.names ?? []).filter((each) => !each.includes(":") && each !== "__end__");
  put($("change-node"), h("option", { value: "" }, "the node that came last"), names.map((each) => h("option", { value: each }, each)));
  $("change-state").showModal();
});
$("change-cancel").addEventListener("click", () => $("change-state").close());
$("change-save").addEventListener("click", async () => {
  try {
    const values = parsed($("change-values"));
    if (values === undefined) throw new FieldError($("change-values"), "must be given");
    const body = { values, checkpoint: { checkpoint_id: now.state.checkpoint.checkpoint_id } };
    if ($("change-node").value) body.as_node = $("change-node").value;
    await call("POST", `/threads/${now.thread}/state`, body);
    $("change-state").close();
    tell("State changed");
    await refresh();
    await loadThreads();
  } catch (error) {
    $("change-wrong").textContent = error.message.slice(0, 1000);
  }
});

for (const each of document.querySelectorAll(".switch button")) {
  each.addEventListener("click", () => view(each.dataset.view));
}
const tabs = () => [...document.querySelectorAll("[role=tab]:not([hidden])")];
for (const each of document.querySelectorAll("[role=tab]")) {
  each.addEventListener("click", () => {
    now.tab = each.id.slice(4);
    showTab();
  });
}
$("tabs").addEventListener("keydown", (event) => {
  const all = tabs();
  const place = all.indexOf(document.activeElement);
  const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined || place < 0) return;
  event.preventDefault();
  const next = all[(to + all.length) % all.length];
  next.focus();
  next.click();
});

async function begin() {
  if (hasKey()) $("key").textContent = "Forget key";
  const info = await attempt(() => call("GET", "/info"));
  if (info?.version) $("version").textContent = String(info.version);
  $("tab-crons").hidden = !info?.flags?.crons;
  $("tab-webhooks").hidden = info?.flags?.webhooks === false;
  await attempt(loadAssistants);
  await loadThreads();
  const wanted = new URLSearchParams(location.hash.slice(1)).get("thread");
  if (wanted && UUID.test(wanted)) await openThread(wanted);
}

begin();
