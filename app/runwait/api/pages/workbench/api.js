// Calls of the API: with the key, if there is one; errors as they are told; server-sent events.

// This module is at {where the service is}/workbench/api.js, whatever is before that.
const BASE = new URL("..", import.meta.url);
// The most characters of one event that are read; of a longer one, only that it was there.
export const MOST_OF_AN_EVENT = 4_000_000;
// The most bytes of an answer that are read.
const MOST_OF_AN_ANSWER = 24_000_000;
// A stream that breaks off is joined again so many times without an event in between.
const ATTEMPTS = 5;

// What an answer that is no success says.
export class ApiError extends Error {
  constructor(status, detail, headers) {
    super(detail);
    this.status = status;
    this.headers = headers;
  }
}

let asked = null; // the question for the key that is on the screen
let ask = async () => null; // set by main.js: shows the question; gives a key, or null
let gaveUp = false; // the question was closed without a key

export function onKeyNeeded(question) {
  ask = question;
}

function stored(name) {
  try {
    return sessionStorage.getItem(name);
  } catch {
    return null; // a browser that stores nothing
  }
}

let key = stored("runwait.key");
let header = stored("runwait.header") ?? "X-Api-Key";

// The key is kept for this tab alone, until it is closed.
export function setKey(value, how = "X-Api-Key") {
  [key, header, gaveUp] = [value, how, false];
  try {
    for (const [name, each] of [["runwait.key", value], ["runwait.header", how]]) {
      if (value) sessionStorage.setItem(name, each);
      else sessionStorage.removeItem(name);
    }
  } catch {
    // Then it is in this page's memory.
  }
}

export const hasKey = () => Boolean(key);

export function url(path) {
  return new URL(path.replace(/^\//, ""), BASE);
}

async function send(method, path, { body, headers = {}, signal } = {}) {
  for (;;) {
    const all = { ...headers };
    if (body !== undefined) all["Content-Type"] = "application/json";
    if (key) all[header] = header === "Authorization" ? `Bearer ${key}` : key;
    const used = key;
    const response = await fetch(url(path), {
      method,
      headers: all,
      signal,
      body: body === undefined ? undefined : stringify(body),
      credentials: "same-origin",
      redirect: "error",
    });
    if (response.ok) return response;
    const error = await errorOf(response);
    // 403 may also be the answer to who has the right key but not the right.
    const needed = response.status === 401 || (response.status === 403 && !used);
    if (!needed || gaveUp) throw error;
    if (used !== key) continue; // another call has asked meanwhile
    asked ??= ask(error.message).finally(() => (asked = null));
    if (!(await asked)) {
      gaveUp = true;
      throw error;
    }
  }
}

async function errorOf(response) {
  const text = (await response.text()).slice(0, 20_000);
  let detail = text;
  try {
    const found = JSON.parse(text).detail;
    if (typeof found === "string") detail = found;
  } catch {
    // A proxy's page, perhaps.
  }
  return new ApiError(response.status, detail || response.statusText, response.headers);
}

// JSON whose whole numbers stay what they are, also where a double has no room for them.
export function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (name, value, context) => {
    const isCut = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return isCut && /^-?\d+$/.test(context?.source) ? BigInt(context.source) : value;
  });
}

export function stringify(value, space) {
  const written = (each) => (JSON.rawJSON ? JSON.rawJSON(String(each)) : Number(each));
  return JSON.stringify(value, (name, each) => (typeof each === "bigint" ? written(each) : each), space);
}

// An answer is larger than can be looked at.
export class TooLarge extends Error {
  constructor() {
    super(`the answer is larger than the ${MOST_OF_AN_ANSWER / 1e6} MB that are shown here; ask for it with curl`);
  }
}

async function parsed(response) {
  const pieces = [];
  let size = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const { value, done } = reader ? await reader.read() : { done: true };
    if (done) break;
    pieces.push(value);
    size += value.length;
    if (size > MOST_OF_AN_ANSWER) {
      reader.cancel().catch(() => {});
      throw new TooLarge();
    }
  }
  const text = await new Blob(pieces).text();
  return text ? parse(text) : undefined;
}

// The answer to a call, parsed; undefined where it has no body.
export async function call(method, path, body, options = {}) {
  return parsed(await send(method, path, { ...options, body }));
}

// The same, with how many there are in all.
export async function search(path, body) {
  const response = await send("POST", path, { body });
  const total = Number(response.headers.get("X-Pagination-Total") ?? NaN);
  return { found: await parsed(response), total };
}

// Start a run, and yield its events.
export async function* stream(path, body, signal) {
  yield* following(await send("POST", path, { body, signal }), signal);
}

// Yield the events of a run that is there already, from its first one that is kept.
export async function* join(threadId, runId, signal) {
  yield* following(await joined(threadId, runId, "-1", signal), signal);
}

function joined(threadId, runId, last, signal) {
  const path = `/threads/${threadId}/runs/${runId}/stream`;
  return send("GET", path, { headers: { "Last-Event-ID": last }, signal });
}

async function* following(response, signal) {
  let ids = null;
  let last = "-1";
  for (let left = ATTEMPTS; ; left--) {
    try {
      for await (const event of events(response.body)) {
        if (event.event === "metadata" && event.data?.run_id) ids = event.data;
        if (event.id) last = event.id;
        left = ATTEMPTS;
        yield event;
        if (event.event === "end") return;
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (!left || !ids) throw error;
    }
    if (!ids || !left) throw new Error("the connection broke off; the run goes on without it");
    await new Promise((resolve) => setTimeout(resolve, 500 * (ATTEMPTS - left + 1)));
    if (signal?.aborted) return;
    try {
      response = await joined(ids.thread_id, ids.run_id, last, signal);
    } catch (error) {
      if (error instanceof ApiError && error.status < 500) throw error;
    }
  }
}

// The events of an answer's body, as they come: {event, data, id}; {event, size} of a huge one.
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = {};
  let size = 0; // of data that are too large to be kept
  let isTail = false; // the next line is the rest of one that was dropped
  const line = (text) => {
    if (text.startsWith("event: ")) event.event = text.slice(7);
    else if (text.startsWith("id: ")) event.id = text.slice(4);
    else if (text.startsWith("data: ") && !size) event.data = text.slice(6);
  };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const each of lines) {
        const text = each.endsWith("\r") ? each.slice(0, -1) : each;
        if (isTail) isTail = false;
        else if (text) line(text);
        else if (event.event) {
          if (size) yield { ...event, data: undefined, size };
          else yield { ...event, data: event.data === undefined ? null : parse(event.data) };
        }
        if (!text) [event, size] = [{}, 0];
      }
      if (rest.length > MOST_OF_AN_EVENT || (isTail && rest)) {
        size += rest.length;
        rest = "";
        isTail = true;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
