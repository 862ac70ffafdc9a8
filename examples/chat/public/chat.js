const said = document.getElementById("said");
const state = document.getElementById("state");
const text = document.getElementById("text");
const name =
  new URLSearchParams(location.search).get("name") ??
  `guest-${Math.random().toString(36).slice(2, 6)}`;

let socket;
let wait = 250;

function line(kind, who, what) {
  const item = document.createElement("li");
  item.className = who === name && kind === "said" ? "said own" : kind;
  if (kind === "said") {
    const author = document.createElement("b");
    author.textContent = who;
    item.append(author, document.createElement("br"));
  }
  item.append(what);
  said.append(item);
  item.scrollIntoView({ block: "end" });
}

function connect() {
  const url = new URL(`/room?name=${encodeURIComponent(name)}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.onopen = () => {
    wait = 250;
  };
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.here) state.textContent = `${name} · ${message.here} here`;
    if (message.type === "said") line("said", message.name, message.text);
    else line("news", message.name, `${message.name} ${message.type}`);
  };
  socket.onclose = () => {
    state.textContent = "connecting…";
    setTimeout(connect, wait);
    wait = Math.min(wait * 2, 5000);
  };
}

document.getElementById("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN || !text.value.trim()) return;
  socket.send(text.value);
  text.value = "";
});

connect();
