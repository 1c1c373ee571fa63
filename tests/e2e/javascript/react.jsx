// As chat.jsx, by the hook of the same name in @langchain/react, which speaks LangGraph's event protocol.
import { Client } from "@langchain/langgraph-sdk";
import { useStream } from "@langchain/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

function Chat() {
  const [threadId, setThreadId] = useState(new URLSearchParams(location.search).get("thread"));
  const stream = useStream({
    apiUrl: location.origin,
    assistantId: "chat",
    threadId,
    onThreadId: (id) => {
      history.replaceState(null, "", `?thread=${id}`);
      setThreadId(id);
    },
  });
  const question = stream.interrupt?.value?.question;
  // This version of the hook takes the state before the latest for that before each message.
  const change = async ({ id }, content) => {
    const states = await new Client({ apiUrl: location.origin }).threads.getHistory(threadId, { limit: 100 });
    const before = states.find(({ values }) => !values.messages?.some((each) => each.id === id));
    stream.submit({ messages: [{ type: "human", content }] }, { forkFrom: before.checkpoint.checkpoint_id });
  };
  const send = (event) => {
    event.preventDefault();
    const { text, gate } = event.target.elements;
    const messages = [{ type: "human", content: text.value }];
    if (question) stream.respond(text.value);
    else stream.submit(gate.value ? { messages, gate: gate.value } : { messages });
  };
  return (
    <main data-loading={stream.isLoading}>
      <ol>
        {stream.messages.map((message, place) => (
          <li key={message.id ?? place}>
            <span>{`${message.type}: ${message.text}`}</span>
            {message.type === "human" && (
              <button onClick={() => change(message, document.forms[0].text.value)}>change</button>
            )}
          </li>
        ))}
      </ol>
      {question && <p id="question">{question}</p>}
      {stream.error && <p id="error">{String(stream.error)}</p>}
      <form onSubmit={send}>
        <input name="text" />
        <input name="gate" />
      </form>
    </main>
  );
}

createRoot(document.body.appendChild(document.createElement("div"))).render(<Chat />);
