// Calls methods of the SDK's client: a line of standard input for each, a JSON object with an `id`, the
// `url` of the API, the method's `name` (part.method) and its `args`. What yields is told to stop by
// a line with its `id` alone; it must be given its options last.
//
// Prints a JSON object a line: the `id`, and either a `part` that the method yielded, or in the end its
// `answer` or the `error` that it threw, and the `run` that onRunCreated was told of.
import { createInterface } from "node:readline";

import { Client } from "@langchain/langgraph-sdk";

const STARTING = ["runs.wait", "runs.stream", "runs.create"];
const streams = new Map();

function print(told) {
  console.log(JSON.stringify(told));
}

async function outcome({ id, url, name, args }) {
  const client = new Client({ apiUrl: url, callerOptions: { maxRetries: 0 } });
  const [part, method] = name.split(".");
  const found = { id };
  if (STARTING.includes(name)) {
    args[2] = { ...args[2], onRunCreated: (run) => (found.run = run) };
  }
  if (/stream$/i.test(method)) {
    streams.set(id, new AbortController());
    args.push({ ...args.pop(), signal: streams.get(id).signal });
  }
  try {
    const called = client[part][method](...args);
    if (called[Symbol.asyncIterator]) {
      for await (const part of called) print({ id, part });
    } else {
      found.answer = await called;
    }
  } catch (error) {
    found.error = { message: error.message, status: error.status };
  }
  return found;
}

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  if (asked.name) outcome(asked).then(print);
  else streams.get(asked.id).abort();
}
