// What leaves the node: fetch, WebSocket clients, server-sent events, sockets. Each counts as
// a subrequest of the request it belongs to; where it may go is decided in Rust, by address.
// Here a refusal only gets its words.

import { core, primordials } from "ext:core/mod.js";
import { currentId } from "ext:verge_engine/context.js";

const { op_verge_socket_refusal, op_verge_subrequest, TCPWrap } = core.ops;
const {
  Error,
  PromisePrototypeCatch,
  Proxy,
  ReflectApply,
  ReflectConstruct,
  StringPrototypeIncludes,
  StringPrototypeIndexOf,
  StringPrototypeLastIndexOf,
  StringPrototypeSlice,
  TypeError,
} = primordials;

const REFUSED = "outbound connection refused: ";
const LAST_WORD = "in the configuration";
// What Deno's own check of an address says; the address is none of the app's business.
const DENIED = "Requires net access to";

/** The words of a refusal in an error of Deno's, or null. */
function refusal(error) {
  const message = error?.message;
  if (typeof message !== "string") return null;
  const start = StringPrototypeIndexOf(message, REFUSED);
  if (start >= 0) {
    const end = StringPrototypeLastIndexOf(message, LAST_WORD);
    return StringPrototypeSlice(message, start, end < start ? undefined : end + LAST_WORD.length);
  }
  if (StringPrototypeIncludes(message, DENIED)) {
    return `${REFUSED}it does not lead to the public internet, and apps reach nothing else`;
  }
  return null;
}

function clarify(error) {
  const words = refusal(error) ?? refusal(error?.cause);
  throw words === null ? error : new TypeError(words);
}

let fetchModule;
const loadFetch = () => fetchModule ??= core.loadExtScript("ext:deno_fetch/26_fetch.js");
const loadWebSocket = core.createLazyLoader("ext:deno_websocket/01_websocket.js");

function fetch(input, init) {
  op_verge_subrequest(currentId());
  return PromisePrototypeCatch(loadFetch().fetch(input, init), clarify);
}

let countedWebSocket;
function WebSocketClass() {
  if (countedWebSocket === undefined) {
    const { WebSocket } = loadWebSocket();
    countedWebSocket = new Proxy(WebSocket, {
      construct(target, args, newTarget) {
        op_verge_subrequest(currentId());
        try {
          return ReflectConstruct(target, args, newTarget);
        } catch (error) {
          return clarify(error);
        }
      },
    });
  }
  return countedWebSocket;
}

const UV_EACCES = -13;

// Node's sockets connect through these two methods and no other way. They stay as they are
// set here: only methods with fast calls are made anew when an isolate comes from the
// snapshot. Without Node's modules there is no such class.
for (const name of TCPWrap === undefined ? [] : ["connect", "connect6"]) {
  const connect = TCPWrap.prototype[name];
  TCPWrap.prototype[name] = function (request, address, port) {
    const words = op_verge_socket_refusal(address, port);
    if (words === null) {
      op_verge_subrequest(currentId());
      return ReflectApply(connect, this, [request, address, port]);
    }
    // One of several addresses: Node takes a code there, and an exception nowhere.
    if (request.addressType !== undefined) return UV_EACCES;
    const error = new Error(words);
    error.code = "EACCES";
    error.syscall = "connect";
    throw error;
  };
}

core.defineGlobalProperties(globalThis, {
  fetch: core.propWritable(fetch),
  WebSocket: core.propNonEnumerableLazyLoaded((cls) => cls, WebSocketClass),
  caches: core.propGetterOnly(() => {
    throw new Error("caches (the Cache API) is not available in this version of Verge");
  }),
});
