// Calls methods of the SDK's client: a line of standard input for each, a JSON object with an `id`, the
// `url` of the API, the method's `name` (part.method) and its `args`.
//
// Prints a JSON object a line: the `id`, the method's `answer` or the `error` that it threw, and from
// runs.wait also the `run` that onRunCreated was told of.
import { createInterface } from "node:readline";

import { Client } from "@langchain/langgraph-sdk";

async function outcome({ id, url, name, args }) {
  const client = new Client({ apiUrl: url, callerOptions: { maxRetries: 0 } });
  const [part, method] = name.split(".");
  const found = { id };
  if (name === "runs.wait") {
    args[2] = { ...args[2], onRunCreated: (run) => (found.run = run) };
  }
  try {
    found.answer = await client[part][method](...args);
  } catch (error) {
    found.error = { message: error.message, status: error.status };
  }
  return found;
}

for await (const line of createInterface({ input: process.stdin })) {
  outcome(JSON.parse(line)).then((found) => console.log(JSON.stringify(found)));
}
