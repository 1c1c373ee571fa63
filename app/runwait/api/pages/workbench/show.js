// Makes elements. Whatever came from a graph or a client becomes text, never markup.

// How much of a text, of a list and of a tree is shown at first; each step shows more.
const TEXT_STEP = 4000;
const LIST_STEP = 50;
const INLINE = 72;
const SVG = "http://www.w3.org/2000/svg";

// An element: its properties (`on...` listen, others are attributes), and what is in it.
export function h(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

export function button(text, onclick, properties = {}) {
  return h("button", { type: "button", onclick, ...properties }, text);
}

// A text, the beginning of it if it is long.
export function text(value, className = "text") {
  const shown = h("span", { class: className }, value.slice(0, TEXT_STEP));
  if (value.length <= TEXT_STEP) return shown;
  let end = TEXT_STEP;
  const left = () => `${(value.length - end).toLocaleString("en")} more characters`;
  const more = button(left(), () => {
    shown.append(value.slice(end, end + 10 * TEXT_STEP));
    end = Math.min(value.length, end + 10 * TEXT_STEP);
    more.textContent = left();
    if (end >= value.length) more.remove();
  }, { class: "more" });
  return h("span", {}, shown, " ", more);
}

// A few of many, and a button for the next.
export function few(items, make, step = LIST_STEP) {
  const list = document.createDocumentFragment();
  let end = 0;
  const more = button("", () => next(), { class: "more" });
  const next = () => {
    const made = items.slice(end, end + step).map(make);
    end += made.length;
    if (more.parentNode) more.before(...made);
    else list.append(...made);
    if (end >= items.length) more.remove();
    else {
      more.textContent = `${(items.length - end).toLocaleString("en")} more`;
      if (!more.parentNode) list.append(more);
    }
  };
  next();
  return list;
}

const isPlain = (value) => value === null || typeof value !== "object";

// Whether a value is short enough for one line; looks no further than it has to.
function oneLine(value, left = INLINE) {
  const go = (each) => {
    if (left < 0) return;
    if (isPlain(each)) left -= typeof each === "string" ? each.length + 2 : 6;
    else for (const [name, inner] of Object.entries(each)) {
      left -= Array.isArray(each) ? 2 : name.length + 4;
      if (left < 0) return;
      go(inner);
    }
  };
  go(value);
  return left >= 0;
}

// A JSON value as a tree that opens where it is clicked.
export function json(value, open = 1) {
  return h("div", { class: "json" }, node(value, null, open));
}

function node(value, name, open) {
  const label = name === null ? [] : [h("span", { class: "name" }, text(String(name), "")), ": "];
  if (isPlain(value)) return h("div", {}, label, plain(value));
  if (oneLine(value)) return h("div", {}, label, h("span", { class: "inline" }, ...inline(value)));
  const entries = Array.isArray(value) ? value.map((each, i) => [i, each]) : Object.entries(value);
  const count = entries.length.toLocaleString("en");
  const what = Array.isArray(value) ? `[${count}]` : `{${count}}`;
  const inner = h("div", { class: "inner" });
  const fill = () => {
    if (!inner.firstChild) inner.append(few(entries, ([key, each]) => node(each, key, open - 1)));
  };
  const made = h("details", { ontoggle: fill }, h("summary", {}, label, h("span", { class: "count" }, what)), inner);
  if (open > 0) {
    fill();
    made.open = true;
  }
  return made;
}

function inline(value) {
  if (isPlain(value)) return [plain(value)];
  const list = Array.isArray(value);
  const parts = Object.entries(value).flatMap(([name, each], i) => [
    i ? ", " : "",
    ...(list ? [] : [h("span", { class: "name" }, name), ": "]),
    ...inline(each),
  ]);
  return [list ? "[" : "{", ...parts, list ? "]" : "}"];
}

function plain(value) {
  if (typeof value !== "string") return h("span", { class: "value" }, String(value));
  return text(value, "string");
}

// What a message says: its texts together, and all that is no text as it is.
function contents(content) {
  if (typeof content === "string") return content ? [text(content)] : [];
  if (!Array.isArray(content)) return content ? [json(content)] : [];
  return content.map((each) => {
    if (typeof each === "string") return text(each);
    if (each?.type === "text" && typeof each.text === "string") return text(each.text);
    return json(each, 0);
  });
}

const ROLES = { human: "user", user: "user", ai: "assistant", assistant: "assistant", tool: "tool" };
const NAMES = { user: "You", assistant: "Assistant" };

export function isMessage(value) {
  return !isPlain(value) && "content" in value && ("type" in value || "role" in value);
}

export function isMessages(value) {
  return Array.isArray(value) && value.length > 0 && value.slice(-20).every(isMessage);
}

// A message in a conversation.
export function message(value) {
  const told = String(value.role ?? value.type ?? "").replace(/MessageChunk$/, "").toLowerCase();
  const role = ROLES[told] ?? "other";
  const who = NAMES[role] ?? [told, value.name].filter(Boolean).join(" ");
  const calls = Array.isArray(value.tool_calls) ? value.tool_calls : [];
  return h(
    "article",
    { class: `message ${role}` },
    h("h3", {}, text(who, "")),
    h("div", { class: "content" }, ...contents(value.content)),
    ...calls.slice(0, LIST_STEP).map((each) =>
      h("div", { class: "call" }, h("span", { class: "tag" }, "calls"), " ", text(String(each?.name), "name"), " ",
        h("span", { class: "inline" }, ...(oneLine(each?.args) ? inline(each?.args) : [json(each?.args, 0)])))),
  );
}

// How long ago a time was; the time itself is its title.
export function ago(iso) {
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([each]) => seconds >= each) ?? [1, "s"];
  const told = Number.isNaN(seconds) ? "" : seconds < 5 ? "now" : `${Math.floor(seconds / size)} ${unit} ago`;
  return h("time", { datetime: iso, title: iso }, told);
}

export function status(value) {
  return h("span", { class: "status", "data-status": value }, String(value));
}

// An id, short; all of it is its title.
export function short(id) {
  const told = String(id);
  return h("code", { title: told }, told.length > 13 ? `${told.slice(0, 4)}…${told.slice(-8)}` : told);
}
