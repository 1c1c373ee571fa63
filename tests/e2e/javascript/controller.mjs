// What `useStream` does, by the controller that is behind it: a page and the same page loaded again. Arguments:
// the url of the API, and a folder for the gates of the graph `chat`.
//
// Prints JSON objects, each the name of what was `seen` and the `messages` there were: their types and texts.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { Client } from "@langchain/langgraph-sdk";
import { StreamController } from "@langchain/langgraph-sdk/stream";

const [url, folder] = process.argv.slice(2);
const client = new Client({ apiUrl: url });

let threadId;
const page = () => {
  const onThreadId = (id) => (threadId = id);
  const controller = new StreamController({ client, assistantId: "chat", threadId, onThreadId });
  controller.activate();
  return controller;
};
const now = (page) => page.rootStore.getSnapshot();
const print = (seen, page) => {
  const messages = now(page).messages.map((each) => [each.getType(), each.text]);
  console.log(JSON.stringify({ seen, messages }));
};
const until = async (page, holds) => {
  const began = Date.now();
  while (!holds(now(page))) {
    if (Date.now() - began > 30_000) {
      const { isLoading, interrupts } = now(page);
      print(`never ${holds}`, page);
      throw new Error(JSON.stringify({ isLoading, interrupts }));
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
};
const human = (content) => ({ messages: [{ type: "human", content }] });
const gate = (name) => join(folder, name);

const first = page();
const told = first.submit({ ...human("one two"), gate: gate("first") });
const told_some = ({ messages }) => messages[1]?.text === "one ";
await until(first, told_some);
print("a token", first);

const second = page();
await second.hydrate(threadId);
await until(second, told_some);
print("a token, by who came later", second);
writeFileSync(gate("first"), "");
await told;
await until(second, ({ isLoading }) => !isLoading);
print("the end", first);
print("the end, by who came later", second);

const stopped = second.submit({ ...human("three four"), gate: gate("second") });
await until(second, ({ messages }) => messages.length === 4);
await second.stop();
await stopped;
print("what a stop left", second);
writeFileSync(gate("second"), "");

const at = now(second).messages[2].id;
const { parentCheckpointId } = second.messageMetadataStore.getSnapshot().get(at);
await second.submit({ ...human("May I go?"), gate: null }, { forkFrom: parentCheckpointId });
await until(second, ({ interrupts, messages }) => interrupts.length && messages.length === 3);
print(now(second).interrupts[0].value.question, second);
await until(first, ({ interrupts }) => interrupts.length);
await second.respond("You may");
await until(second, ({ isLoading, messages }) => !isLoading && messages.length === 5);
print("the answer", second);
await until(first, ({ interrupts, messages }) => !interrupts.length && messages.length === 5);
print("the answer, where it was not given", first);

// The other page may take this for asked before it answered, if it is still at that.
await client.runs.create(threadId, "chat", { input: human("May I stay?") });
await until(first, ({ interrupts, messages }) => interrupts.length && messages.length === 6);
print(`${now(first).interrupts[0].value.question}, of another client's run`, first);
process.exit(0);
