// The workbench: one page with graphs, threads, runs and what becomes of them.

import { call, hasKey, onKeyNeeded, setKey } from "./api.js";
import { FieldError, parsed } from "./form.js";
import { givenInput, loadAssistants, switchMode } from "./graphs.js";
import { $, attempt, now, put, tell, view } from "./page.js";
import { showTab } from "./panels.js";
import { start, stop } from "./runs.js";
import { h } from "./show.js";
import { UUID, deleteThread, loadThreads, newThread, openThread, refresh } from "./threads.js";

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
