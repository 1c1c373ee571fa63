// A run, from its start to its end, and the questions that it may stop with.

import { call, stream } from "./api.js";
import { FieldError, parsed } from "./form.js";
import { wrong } from "./graphs.js";
import { $, attempt, failure, now, put, remember, tell, turn, value } from "./page.js";
import { button, h, json, message, text } from "./show.js";
import { buttons, down, stayDown, loadThreads, questions, refresh, showThread, showValues, words } from "./threads.js";

const MODES = ["values", "tasks", "messages-tuple", "custom"];
const MOST_STEPS = 100;
// Messages that are being written, and how long one may become.
const MOST_BUBBLES = 60;
const MOST_TOKENS = 100_000;

// Start a run; gives whether it was accepted.
export async function start(asked, sent = () => {}) {
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
export async function follow(open, ids) {
  const run = { ids, controller: new AbortController(), bubbles: new Map(), steps: new Map(), marks: new Map(), status: null };
  now.run = run;
  now.isPast = false;
  for (const each of ["steps", "questions", "failure"]) put($(each));
  $("past").hidden = true;
  put($("steps"), run.list = h("ol", { class: "steps" }));
  stayDown();
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

export function leave() {
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
      if (data?.attempt > (run.ids.attempt ?? data.attempt)) again(run, data.attempt);
      run.ids.attempt = data?.attempt;
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

// Another process goes on with the run: what it had begun comes once more.
export function again(run, attempt) {
  for (const each of run.bubbles.values()) each.element.remove();
  run.bubbles.clear();
  run.steps.clear();
  for (const each of run.list.querySelectorAll('[data-status="running"]')) each.dataset.status = "stopped";
  note(run, `Another process goes on with it: attempt ${attempt}`);
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

export function step(run, within, data) {
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
    while (run.bubbles.size > MOST_BUBBLES) {
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

export async function stop() {
  const { thread_id: thread, run_id: id } = now.run?.ids ?? {};
  if (id) await attempt(() => call("POST", `/threads/${thread}/runs/${id}/cancel`));
}

export function showQuestions(state) {
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
