// A form made from a JSON schema. What is left empty is left out of the value.

import { parse, stringify } from "./api.js";
import { button, h } from "./show.js";

// Deeper fields, and what a form has no element for, are written as JSON.
const DEEPEST = 4;
const MOST_FIELDS = 60;

// A field has something that is no value of its kind.
export class FieldError extends Error {
  constructor(element, text) {
    super(text);
    this.element = element;
  }
}

// A control has {element, get, set}: `get` gives the value, undefined where it is left out, or
// raises a FieldError; `set` shows a value, and says whether it can.

let serial = 0;
const freshId = () => `field-${++serial}`;

// The schema itself, where it refers to another one or allows null.
function resolved(schema, root, hops = 0) {
  if (schema === null || typeof schema !== "object" || hops > 20) return {};
  if (typeof schema.$ref === "string") {
    const found = schema.$ref.replace(/^#\//, "").split("/").reduce((at, name) => at?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], root);
    return { ...resolved(found, root, hops + 1), ...(schema.default !== undefined && { default: schema.default }) };
  }
  if (Array.isArray(schema.allOf) && schema.allOf.length === 1) return { ...resolved(schema.allOf[0], root, hops + 1), ...without(schema, "allOf") };
  if (Array.isArray(schema.type)) {
    const types = schema.type.filter((each) => each !== "null");
    return types.length === 1 ? { ...schema, type: types[0] } : schema;
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(choices)) {
    const others = choices.filter((each) => each?.type !== "null");
    if (others.length === 1) return { ...resolved(others[0], root, hops + 1), ...without(without(schema, "anyOf"), "oneOf") };
    const words = others.map((each) => choice(resolved(each, root, hops + 1)));
    if (words.every(Boolean)) return { enum: words.flat(), title: schema.title, description: schema.description, default: schema.default };
  }
  return schema;
}

const without = (object, name) => Object.fromEntries(Object.entries(object).filter(([each]) => each !== name));
const choice = (schema) => (Array.isArray(schema.enum) ? schema.enum : "const" in schema ? [schema.const] : null);

function isConversation(name, schema, root) {
  if (schema.type !== "array") return false;
  const items = schema.items ?? {};
  const kinds = items.oneOf ?? items.anyOf ?? [];
  if (kinds.some((each) => /Message(Chunk)?$/.test(each?.$ref ?? each?.title ?? ""))) return true;
  return name === "messages" && !["string", "number", "integer", "boolean"].includes(resolved(items, root).type);
}

// A form for a schema: {element, get, set}.
export function form(schema, options = {}) {
  const root = schema ?? {};
  const top = resolved(root, root);
  const control = top.type === "object" && hasFields(top) ? fields(top, root, 0, options) : json("", top);
  return { ...control, isJson: !control.isForm };
}

const hasFields = (schema) => {
  const count = Object.keys(schema.properties ?? {}).length;
  return count > 0 && count <= MOST_FIELDS;
};

function fields(schema, root, depth, options) {
  const made = Object.entries(schema.properties).map(([name, each]) => [name, field(name, each, root, depth, options, (schema.required ?? []).includes(name))]);
  const element = h("div", { class: "fields" }, made.map(([, each]) => each.element));
  const get = () => {
    const value = {};
    for (const [name, each] of made) {
      const given = each.get();
      // Not `value[name] = given`: a field may be called __proto__.
      if (given !== undefined) Object.defineProperty(value, name, { value: given, enumerable: true, configurable: true, writable: true });
    }
    return depth && !Object.keys(value).length ? undefined : value;
  };
  const set = (value) => {
    if (value === undefined || value === null) return made.every(([, each]) => each.set(undefined));
    if (typeof value !== "object" || Array.isArray(value)) return false;
    const names = new Set(made.map(([name]) => name));
    return Object.keys(value).every((each) => names.has(each)) && made.every(([name, each]) => each.set(Object.hasOwn(value, name) ? value[name] : undefined));
  };
  return { element, get, set, isForm: true };
}

// A labelled control.
function field(name, given, root, depth, options, required) {
  const schema = resolved(given, root);
  const id = freshId();
  const control = controlFor(name, schema, root, depth, options, id);
  const title = h("span", { class: "name" }, name);
  const note = required ? null : h("span", { class: "hint" }, " optional");
  const told = schema.description ?? given?.description;
  const hint = typeof told === "string" && told.length < 300 && !control.isGroup ? h("span", { class: "hint" }, told) : null;
  const element = control.isGroup
    ? h("fieldset", {}, h("legend", {}, title, note), control.element)
    : h("div", { class: "field" }, h("label", { for: id }, title, note), control.element, hint);
  return { ...control, element };
}

function controlFor(name, schema, root, depth, options, id) {
  if (isConversation(name, schema, root)) return conversation(id, options);
  const words = choice(schema);
  if (words) return select(id, words, schema);
  switch (schema.type) {
    case "string": return string(id, schema);
    case "integer":
    case "number": return number(id, schema);
    case "boolean": return select(id, [true, false], schema);
    case "array":
      if (depth < DEEPEST && schema.items && Object.keys(schema.items).length) return list(name, schema.items, root, depth, options);
      break;
    case "object":
      if (depth < DEEPEST && hasFields(schema)) return { ...fields(schema, root, depth + 1, options), isGroup: true };
  }
  return json(id, schema);
}

const shown = (value) => (typeof value === "string" ? value : stringify(value));
const placeholder = (schema) => (schema.default === undefined || schema.default === null ? "" : shown(schema.default).slice(0, 100));

function string(id, schema) {
  const element = h("textarea", { id, rows: 1, placeholder: placeholder(schema), spellcheck: "false" });
  const set = (value) => {
    element.value = value ?? "";
    return value === undefined || typeof value === "string";
  };
  return { element, get: () => element.value || undefined, set };
}

function number(id, schema) {
  const element = h("input", { id, inputmode: schema.type === "integer" ? "numeric" : "decimal", placeholder: placeholder(schema), autocomplete: "off" });
  const get = () => {
    const given = element.value.trim();
    if (!given) return undefined;
    const value = Number(given);
    if (!Number.isFinite(value) || !/^[-+\d.eE]+$/.test(given)) throw new FieldError(element, "must be a number");
    if (schema.type === "integer" && !Number.isInteger(value)) throw new FieldError(element, "must be a whole number");
    return value;
  };
  const set = (value) => {
    element.value = value ?? "";
    return value === undefined || typeof value === "number";
  };
  return { element, get, set };
}

function select(id, words, schema) {
  const none = schema.default === undefined ? "–" : `default: ${shown(schema.default)}`.slice(0, 60);
  const element = h("select", { id }, h("option", { value: "" }, none), words.map((each, i) => h("option", { value: i }, shown(each))));
  const set = (value) => {
    const place = words.findIndex((each) => each === value);
    element.value = place < 0 ? "" : place;
    return value === undefined || place >= 0;
  };
  return { element, get: () => (element.value === "" ? undefined : words[element.value]), set };
}

function json(id, schema) {
  const element = h("textarea", { id: id || freshId(), class: "code", rows: 2, placeholder: placeholder(schema) || "JSON", spellcheck: "false", "aria-label": id ? null : "Input as JSON" });
  const set = (value) => {
    element.value = value === undefined ? "" : stringify(value, 2);
    return true;
  };
  return { element, get: () => parsed(element), set };
}

// The JSON in a text field; undefined if it is empty.
export function parsed(element) {
  if (!element.value.trim()) return undefined;
  try {
    return parse(element.value);
  } catch (error) {
    throw new FieldError(element, `is not JSON: ${error.message}`);
  }
}

// Messages: what is written becomes one of the user's.
function conversation(id, options) {
  const element = h("textarea", {
    id,
    class: "chat",
    rows: 2,
    placeholder: "Write a message. Enter sends it, Shift and Enter begin a line.",
    onkeydown: (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      options.onSend?.();
    },
  });
  const set = (value) => {
    element.value = "";
    if (value === undefined) return true;
    const [only, ...others] = Array.isArray(value) ? value : [];
    const mine = only && (only.role === "user" || only.type === "human") && typeof only.content === "string";
    if (!mine || others.length || Object.keys(only).length !== 2) return false;
    element.value = only.content;
    return true;
  };
  return { element, get: () => (element.value ? [{ role: "user", content: element.value }] : undefined), set };
}

function list(name, items, root, depth, options) {
  const rows = [];
  const element = h("div", { class: "list" });
  const add = (focus) => {
    const id = freshId();
    const control = controlFor("", resolved(items, root), root, depth + 1, options, id);
    const number = rows.length + 1;
    if (!control.isGroup) control.element.setAttribute("aria-label", `${name} ${number}`);
    const row = { control, element: h("div", { class: "row" }, control.element) };
    row.element.append(button("×", () => remove(row), { class: "quiet", "aria-label": `Remove ${name} ${number}` }));
    rows.push(row);
    more.before(row.element);
    if (focus) row.element.querySelector("input, textarea, select")?.focus();
  };
  const remove = (row) => {
    rows.splice(rows.indexOf(row), 1);
    row.element.remove();
    more.focus();
  };
  const more = button("Add", () => add(true), { class: "quiet", "aria-label": `Add to ${name}` });
  element.append(more);
  add();
  const get = () => {
    const values = rows.map((each) => each.control.get()).filter((each) => each !== undefined);
    return values.length ? values : undefined;
  };
  const set = (value) => {
    for (const each of rows.splice(0)) each.element.remove();
    if (value === undefined) {
      add();
      return true;
    }
    if (!Array.isArray(value) || value.length > 100) return false;
    return value.every((each) => {
      add();
      return rows[rows.length - 1].control.set(each);
    });
  };
  return { element, get, set, isGroup: true };
}
