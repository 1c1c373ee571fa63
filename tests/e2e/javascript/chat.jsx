// A page that shows a conversation with a graph by the hook `useStream`: a list of its messages, an
// interrupt that waits, and a form. Every message can be changed, which begins a branch, and says which
// of how many branches is shown.
import { useStream } from "@langchain/langgraph-sdk/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

function Message({ message, stream }) {
  const { branch, branchOptions = [], firstSeenState } = stream.getMessagesMetadata(message) ?? {};
  const change = (content) =>
    stream.submit(
      { messages: [{ type: "human", content }] },
      { checkpoint: firstSeenState?.parent_checkpoint },
    );
  return (
    <li>
      <span>{`${message.type}: ${message.content}`}</span>
      {branchOptions.length > 1 && (
        <button
          onClick={() => stream.setBranch(branchOptions.find((each) => each !== branch))}
        >
          {branchOptions.indexOf(branch) + 1}/{branchOptions.length}
        </button>
      )}
      {message.type === "human" && (
        <button onClick={() => change(document.forms[0].text.value)}>change</button>
      )}
    </li>
  );
}

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
    reconnectOnMount: true,
    fetchStateHistory: { limit: 100 },
  });
  // A breakpoint has no value.
  const question = stream.interrupt?.value?.question;
  const send = (event) => {
    event.preventDefault();
    const { text, gate } = event.target.elements;
    const messages = [{ type: "human", content: text.value }];
    if (question) stream.submit(undefined, { command: { resume: text.value } });
    else stream.submit(gate.value ? { messages, gate: gate.value } : { messages });
  };
  return (
    <main data-loading={stream.isLoading}>
      <ol>
        {stream.messages.map((message, place) => (
          <Message key={message.id ?? place} message={message} stream={stream} />
        ))}
      </ol>
      {question && <p id="question">{question}</p>}
      {stream.error && <p id="error">{String(stream.error)}</p>}
      <form onSubmit={send}>
        <input name="text" />
        <input name="gate" />
      </form>
      <button onClick={() => stream.stop()}>stop</button>
    </main>
  );
}

createRoot(document.body.appendChild(document.createElement("div"))).render(<Chat />);
