// Calls a method of the SDK's client: node call.mjs <apiUrl> <part.method> <its arguments, a JSON array>
//
// Prints a JSON object: the method's `answer` or the `error` that it threw, and from runs.wait also
// the `run` that onRunCreated was told of.
import { Client } from "@langchain/langgraph-sdk";

const [apiUrl, name, given] = process.argv.slice(2);
const client = new Client({ apiUrl, callerOptions: { maxRetries: 0 } });
const [part, method] = name.split(".");
const args = JSON.parse(given);
const outcome = {};

if (name === "runs.wait") {
  args[2] = { ...args[2], onRunCreated: (run) => (outcome.run = run) };
}
try {
  outcome.answer = await client[part][method](...args);
} catch (error) {
  outcome.error = { message: error.message, status: error.status };
}
console.log(JSON.stringify(outcome));
