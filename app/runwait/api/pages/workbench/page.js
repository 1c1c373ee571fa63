// What all parts of the page share: what is looked at, and how things are put on the screen.

import { ApiError, parse } from "./api.js";
import { h, text } from "./show.js";

export const $ = (id) => document.getElementById(id);

export const now = {
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

export const put = (element, ...children) => element.replaceChildren(...children.flat().filter(Boolean));
export const tell = (words) => ($("told").textContent = words);
// Answers that come after the question has changed are of no interest.
const turns = {};
export const turn = (name) => {
  const mine = (turns[name] = (turns[name] ?? 0) + 1);
  return () => turns[name] === mine;
};

// Do something, and say what went wrong.
export async function attempt(work, where = $("failure")) {
  try {
    return await work();
  } catch (error) {
    if (error?.name === "AbortError") return undefined;
    put(where, failure(error instanceof ApiError ? `Status ${error.status}` : error?.name ?? "Error", error?.message ?? String(error)));
    return undefined;
  }
}

export const failure = (name, words) => h("div", { class: "card failed" }, h("h3", {}, text(String(name), "")), h("p", {}, text(String(words ?? ""))));

export async function sure(what, why) {
  $("sure-what").textContent = what;
  $("sure-why").textContent = why;
  const dialog = $("sure");
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}

export function view(name) {
  document.body.dataset.view = name;
  for (const each of document.querySelectorAll(".switch button")) {
    each.setAttribute("aria-pressed", String(each.dataset.view === name));
  }
}

// What is looked at is in the address, so that it can be loaded again.
export function remember() {
  const part = new URLSearchParams();
  if (now.assistant) part.set("assistant", now.assistant.assistant_id);
  if (now.thread) part.set("thread", now.thread);
  history.replaceState(null, "", `#${part}`);
}

export function value(given) {
  try {
    return parse(given);
  } catch {
    return given;
  }
}
