// What leaves the node: fetch, WebSocket clients, server-sent events. Each counts as a
// subrequest of the request it belongs to; where it may go is decided in Rust, by address.

import { core, primordials } from "ext:core/mod.js";
import { currentId } from "ext:verge_engine/context.js";

const { op_verge_subrequest } = core.ops;
const { Error, Reflect } = primordials;

let fetchModule;
const loadFetch = () => fetchModule ??= core.loadExtScript("ext:deno_fetch/26_fetch.js");
const loadWebSocket = core.createLazyLoader("ext:deno_websocket/01_websocket.js");

function fetch(input, init) {
  op_verge_subrequest(currentId());
  return loadFetch().fetch(input, init);
}

let countedWebSocket;
function WebSocketClass() {
  if (countedWebSocket === undefined) {
    const { WebSocket } = loadWebSocket();
    countedWebSocket = new Proxy(WebSocket, {
      construct(target, args, newTarget) {
        op_verge_subrequest(currentId());
        return Reflect.construct(target, args, newTarget);
      },
    });
  }
  return countedWebSocket;
}

/** Property descriptors for `globalThis`. */
export const outbound = {
  fetch: core.propWritable(fetch),
  WebSocket: core.propNonEnumerableLazyLoaded((cls) => cls, WebSocketClass),
  caches: core.propGetterOnly(() => {
    throw new Error("caches (the Cache API) is not available in this version of Verge");
  }),
};
