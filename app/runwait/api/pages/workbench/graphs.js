// The graphs, and the form for the input of the one that is chosen.

import { call, search, stringify } from "./api.js";
import { drawing } from "./drawing.js";
import { FieldError, form, parsed } from "./form.js";
import { $, attempt, now, put, turn, value, view } from "./page.js";
import { showTab } from "./panels.js";
import { button, h } from "./show.js";
import { newThread } from "./threads.js";

export async function loadAssistants() {
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

export async function chooseAssistant(assistant, fresh = true) {
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

export function about() {
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

export function switchMode(toJson) {
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

export const givenInput = () => ($("input-json") ? parsed($("input-json")) : now.input?.get());

export function wrong(error) {
  for (const each of document.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
  $("wrong").textContent = error instanceof Error ? error.message : error;
  if (error instanceof FieldError) {
    const label = document.querySelector(`label[for="${CSS.escape(error.element.id)}"] .name`)?.textContent;
    $("wrong").textContent = [label ?? error.element.getAttribute("aria-label"), error.message].filter(Boolean).join(" ");
    error.element.setAttribute("aria-invalid", "true");
    error.element.focus();
  }
}
