interface Guest {
  name: string;
  socket: WebSocket;
}

// One isolate serves the whole room: whoever is here is in this set.
const room = new Set<Guest>();

const LONGEST_NAME = 40;
const LONGEST_MESSAGE = 2_000;

function tell(message: unknown): void {
  const text = JSON.stringify(message);
  for (const guest of room) {
    try {
      guest.socket.send(text);
    } catch {
      room.delete(guest);
    }
  }
}

function leave(guest: Guest): void {
  if (room.delete(guest)) tell({ type: "left", name: guest.name, here: room.size });
}

export default {
  fetch(request: Request): Response {
    const url = new URL(request.url);
    if (url.pathname !== "/room") return new Response("Not found\n", { status: 404 });
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return new Response("This is a WebSocket\n", { status: 426, headers: { upgrade: "websocket" } });
    }
    const [client, server] = Object.values(new WebSocketPair());
    const name = url.searchParams.get("name")?.trim().slice(0, LONGEST_NAME) || "somebody";
    const guest: Guest = { name, socket: server };
    server.accept();
    room.add(guest);
    tell({ type: "joined", name, here: room.size });
    server.addEventListener("message", (event: MessageEvent) => {
      if (typeof event.data !== "string") return;
      const text = event.data.trim().slice(0, LONGEST_MESSAGE);
      if (text) tell({ type: "said", name, text });
    });
    server.addEventListener("close", () => leave(guest));
    server.addEventListener("error", () => leave(guest));
    return new Response(null, { status: 101, webSocket: client } as ResponseInit);
  },
};
