// The panel beside the thread: the drawing, the history, runs, crons, webhooks.

import { call, search } from "./api.js";
import { $, attempt, now, put, sure, tell, turn } from "./page.js";
import { ago, button, few, h, json, short, status, text } from "./show.js";
import { STATES, followBusy, openState, openThread, questions, showPast } from "./threads.js";

export async function showTab() {
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
