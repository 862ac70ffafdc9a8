// WebSocketPair: the server's side of a WebSocket that the client asked to open.

import { core, primordials } from "ext:core/mod.js";
import { DOMException, event } from "ext:verge_engine/globals.js";
import { current, enter, leave } from "ext:verge_engine/context.js";

const { op_verge_ws_accept, op_verge_ws_close, op_verge_ws_next, op_verge_ws_send } = core.ops;
const { ArrayBufferIsView, TypeError, Uint8Array } = primordials;

const { EventTarget, MessageEvent, CloseEvent, ErrorEvent, defineEventHandler, setIsTrusted } = event;

const CONNECTING = 0, OPEN = 1, CLOSING = 2, CLOSED = 3;

/** One end of a pair. Messages pass directly to the peer, or through Rust to a client. */
class PairedWebSocket extends EventTarget {
  #peer = null;
  #rid = null;
  #accepted = false;
  #queue = [];
  #state = CONNECTING;
  #context;
  #attachment = null;
  binaryType = "arraybuffer";

  static pair(a, b) {
    a.#peer = b;
    b.#peer = a;
  }

  /** Gives this end to the client of exchange `id`; what the peer sends goes to the wire. */
  static handOver(socket, id, headers) {
    if (socket.#accepted) {
      throw new TypeError("Can't return a WebSocket in a Response after calling accept() on it");
    }
    if (socket.#rid !== null) {
      throw new TypeError("This WebSocket was already returned in a Response");
    }
    const peer = socket.#peer;
    socket.#rid = op_verge_ws_accept(id, headers);
    socket.#state = OPEN;
    // What the app sent before it answered.
    const queue = socket.#queue;
    socket.#queue = [];
    for (let i = 0; i < queue.length; i++) socket.#receive(queue[i]);
    peer.#pump(socket.#rid);
  }

  get readyState() {
    return this.#state;
  }
  get url() {
    return null;
  }
  get protocol() {
    return "";
  }
  get extensions() {
    return "";
  }
  get bufferedAmount() {
    return 0;
  }

  accept() {
    if (this.#accepted) return;
    this.#accepted = true;
    this.#context = current();
    this.#state = OPEN;
    const queue = this.#queue;
    this.#queue = [];
    for (let i = 0; i < queue.length; i++) this.#deliver(queue[i]);
  }

  send(message) {
    if (!this.#accepted) {
      throw new TypeError("You must call accept() on this WebSocket before sending messages");
    }
    if (this.#state >= CLOSING) {
      throw new TypeError("Can't call send() on a WebSocket after close()");
    }
    let data = message;
    if (typeof data !== "string") {
      if (ArrayBufferIsView(data)) {
        data = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
      } else if (data instanceof ArrayBuffer) {
        data = new Uint8Array(data).slice();
      } else {
        data = `${data}`;
      }
    }
    this.#peer.#receive({ data });
  }

  close(code = undefined, reason = "") {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException(
        `Invalid WebSocket close code: ${code}. Use 1000 or 3000 to 4999`,
        "InvalidAccessError",
      );
    }
    if (core.byteLength?.(reason) > 123 || `${reason}`.length > 123) {
      throw new DOMException("A close reason is at most 123 bytes", "SyntaxError");
    }
    if (this.#state >= CLOSING) return;
    this.#state = CLOSING;
    this.#peer.#receive({ close: { code: code ?? 1000, reason: `${reason}` } });
  }

  serializeAttachment(value) {
    this.#attachment = core.serialize(value);
  }
  deserializeAttachment() {
    return this.#attachment === null ? null : core.deserialize(this.#attachment);
  }

  // What the peer sent: to the wire if a client holds this end, else to this end's listeners.
  #receive(item) {
    if (this.#rid !== null) {
      if (item.close) {
        this.#state = CLOSED;
        op_verge_ws_close(this.#rid, item.close.code, item.close.reason);
      } else if (!op_verge_ws_send(this.#rid, item.data)) {
        this.#state = CLOSED;
      }
      return;
    }
    if (!this.#accepted) {
      this.#queue.push(item);
      return;
    }
    this.#deliver(item);
  }

  #deliver(item) {
    const before = this.#context ? enter(this.#context) : undefined;
    try {
      if (item.close) {
        this.#closed(item.close.code, item.close.reason, true);
        return;
      }
      let { data } = item;
      if (typeof data !== "string") {
        data = this.binaryType === "blob" ? new Blob([data]) : data.buffer;
      }
      this.dispatchEvent(new MessageEvent("message", { data }));
    } finally {
      if (this.#context) leave(before);
    }
  }

  #closed(code, reason, wasClean) {
    if (this.#state === CLOSED) return;
    this.#state = CLOSED;
    if (!wasClean) {
      this.dispatchEvent(
        new ErrorEvent("error", { message: "WebSocket disconnected without closing handshake" }),
      );
    }
    this.dispatchEvent(new CloseEvent("close", { code, reason, wasClean }));
  }

  // Reads what the client sends until it closes or goes away.
  async #pump(rid) {
    for (;;) {
      const item = await op_verge_ws_next(rid);
      if (item === null) {
        this.#dropped({ code: 1006, reason: "" });
        return;
      }
      if (typeof item === "string" || item instanceof Uint8Array) {
        this.#fromClient({ data: item });
      } else {
        this.#fromClient({ close: { code: item[0], reason: item[1] } });
        return;
      }
    }
  }

  #fromClient(item) {
    if (this.#accepted) this.#deliver(item);
    else this.#queue.push(item);
  }

  #dropped({ code, reason }) {
    const before = this.#context ? enter(this.#context) : undefined;
    try {
      this.#closed(code, reason, false);
    } finally {
      if (this.#context) leave(before);
    }
  }
}
for (const name of ["message", "close", "error", "open"]) {
  defineEventHandler(PairedWebSocket.prototype, name);
}
Object.defineProperty(PairedWebSocket, "name", { value: "WebSocket" });

/** `new WebSocketPair()` gives `{ 0: client, 1: server }`. */
export class WebSocketPair {
  constructor() {
    this[0] = new PairedWebSocket();
    this[1] = new PairedWebSocket();
    PairedWebSocket.pair(this[0], this[1]);
  }
  *[Symbol.iterator]() {
    yield this[0];
    yield this[1];
  }
}

const responseWebSocket = Symbol("webSocket");

export function webSocketOf(response) {
  return response[responseWebSocket];
}

export function acceptWebSocket(id, socket, headers) {
  PairedWebSocket.handOver(socket, id, headers);
}

const { Response: PlainResponse, ResponsePrototype } = core.loadExtScript(
  "ext:deno_fetch/23_response.js",
);

/**
 * `Response` with Workers' `webSocket` in its init. The prototype is the plain one, so that
 * what `fetch` makes is an instance too.
 */
export function Response(body, init) {
  if (new.target === undefined) {
    throw new TypeError("Class constructor Response cannot be invoked without 'new'");
  }
  if (new.target === Response && init === undefined) return new PlainResponse(body);
  const response = new.target === Response
    ? new PlainResponse(body, init)
    : Reflect.construct(PlainResponse, [body, init], new.target);
  const socket = init?.webSocket;
  if (socket !== undefined && socket !== null) {
    if (!(socket instanceof PairedWebSocket)) {
      throw new TypeError("`webSocket` must be one end of a WebSocketPair");
    }
    if (response.status !== 101) {
      throw new RangeError("Responses with a WebSocket must have status code 101");
    }
    response[responseWebSocket] = socket;
  }
  return response;
}
Object.defineProperty(Response, "length", { value: 0 });
Object.defineProperty(Response, "prototype", { value: ResponsePrototype, writable: false });
Object.defineProperty(ResponsePrototype, "constructor", {
  value: Response,
  writable: true,
  configurable: true,
});
Object.defineProperty(ResponsePrototype, "webSocket", {
  configurable: true,
  enumerable: true,
  get() {
    return this[responseWebSocket] ?? null;
  },
});
for (const name of ["error", "json", "redirect"]) {
  Object.defineProperty(Response, name, {
    value: PlainResponse[name],
    writable: true,
    enumerable: true,
    configurable: true,
  });
}
