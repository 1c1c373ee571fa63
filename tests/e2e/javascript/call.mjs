// Calls a method of the SDK's runs: node call.mjs <apiUrl> <method> <its arguments, a JSON array>
//
// Prints a JSON object: the method's `answer` or the `error` that it threw, and from wait also the
// `run` that onRunCreated was told of.
import { Client } from "@langchain/langgraph-sdk";

const [apiUrl, method, given] = process.argv.slice(2);
const { runs } = new Client({ apiUrl, callerOptions: { maxRetries: 0 } });
const args = JSON.parse(given);
const outcome = {};

if (method === "wait") {
  args[2] = { ...args[2], onRunCreated: (run) => (outcome.run = run) };
}
try {
  outcome.answer = await runs[method](...args);
} catch (error) {
  outcome.error = { message: error.message, status: error.status };
}
console.log(JSON.stringify(outcome));
