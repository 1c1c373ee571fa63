// Has a conversation with a graph, a ThreadStream for each turn. Arguments: the url of the API, the graph, and
// the turns as JSON: an `input` each, and a `response` where an interrupt is to be answered.
//
// Prints of each turn a JSON object: the texts of `messages` as they were streamed, the `output`, the
// `interrupts`, the `counts` that the graph's transformer told of, and the `states` of its lifecycle.
import { Client } from "@langchain/langgraph-sdk";

const [url, assistantId, turns] = process.argv.slice(2);
const client = new Client({ apiUrl: url });
let threadId;

for (const { input, response } of JSON.parse(turns)) {
  const thread = client.threads.stream(threadId, { assistantId });
  threadId = thread.threadId;
  // Before there is a thread: who asks while a short run ends may miss what it told.
  const { counts } = thread.extensions;
  const messages = [];
  const heard = (async () => {
    for await (const message of thread.messages) messages.push(await message.text);
  })();
  await thread.run.start({ input });
  const told = { messages, output: await thread.output, counts: await counts };
  const { interrupts } = thread;
  told.interrupts = [...interrupts];
  if (response !== undefined) {
    const { interruptId, namespace } = interrupts[0];
    const events = await thread.subscribe({ channels: ["lifecycle"] });
    await thread.input.respond({ interrupt_id: interruptId, namespace, response });
    told.states = [];
    for await (const { params } of events) {
      if (params.namespace.length === 0) told.states.push(params.data.event);
      if (told.states.at(-1) === "completed") break;
    }
    told.output = (await client.threads.getState(threadId)).values;
  }
  await thread.close();
  await heard;
  console.log(JSON.stringify(told));
}
