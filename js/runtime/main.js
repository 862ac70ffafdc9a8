// Entry point of the start-up snapshot: sets up the global scope and hands Rust the
// functions it calls. Everything here runs at build time; nothing of an app is known yet.

import { core, internals, primordials } from "ext:core/mod.js";
import {
  installEnv,
  installExports,
  onCall,
  onEntrypointFetch,
  onFetch,
  onScheduled,
  onHandledRejection,
  onUnhandledRejection,
  reset,
} from "ext:verge_engine/app.js";
import { console } from "ext:verge_engine/console.js";
import { currentId } from "ext:verge_engine/context.js";
import { denoNamespace } from "ext:verge_engine/deno_namespace.js";
import "ext:verge_engine/errors.js";
import { DOMException, event, globalProperties, setTimeOrigin } from "ext:verge_engine/globals.js";
import "ext:verge_engine/node_host.js";
import { outbound } from "ext:verge_engine/outbound.js";
import { Request } from "ext:verge_engine/incoming.js";
import { Response, WebSocketPair } from "ext:verge_engine/websocket_pair.js";
import "ext:verge_engine/workers_crypto.js";

const { Error, ObjectDefineProperty, ObjectSetPrototypeOf } = primordials;
const { op_set_wasm_streaming_callback, op_verge_module_data, op_verge_wasm_module } = core.ops;

const USER_AGENT = "Cloudflare-Workers";

core.defineGlobalProperties(globalThis, globalProperties);
core.defineGlobalProperties(globalThis, {
  Request: core.propNonEnumerable(Request),
  Response: core.propNonEnumerable(Response),
  HTMLRewriter: core.propNonEnumerableLazyLoaded(
    (module) => module.HTMLRewriter,
    core.createLazyLoader("ext:verge_engine/html_rewriter.js"),
  ),
  WebSocketPair: core.propNonEnumerable(WebSocketPair),
  ...outbound,
  console: core.propNonEnumerable(console),
  self: core.propGetterOnly(() => globalThis),
});

class WorkerGlobalScope extends event.EventTarget {}
class ServiceWorkerGlobalScope extends WorkerGlobalScope {}
class Navigator {
  get userAgent() {
    return USER_AGENT;
  }
  get hardwareConcurrency() {
    return 1;
  }
  get language() {
    return "en";
  }
  sendBeacon() {
    throw new Error("navigator.sendBeacon is not available; use ctx.waitUntil(fetch(...))");
  }
}
class Scheduler {
  /** A promise that resolves after `ms` milliseconds, or rejects when `signal` aborts. */
  wait(ms, { signal } = {}) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const timer = setTimeout(resolve, ms);
      signal?.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(signal.reason);
      }, { once: true });
    });
  }
  postTask() {
    throw new Error("scheduler.postTask is not available; scheduler.wait is");
  }
}
core.defineGlobalProperties(globalThis, {
  WorkerGlobalScope: core.propNonEnumerable(WorkerGlobalScope),
  ServiceWorkerGlobalScope: core.propNonEnumerable(ServiceWorkerGlobalScope),
  Navigator: core.propNonEnumerable(Navigator),
  Scheduler: core.propNonEnumerable(Scheduler),
  navigator: core.propGetterOnly(() => navigatorInstance),
  scheduler: core.propGetterOnly(() => schedulerInstance),
});
const navigatorInstance = new Navigator();
const schedulerInstance = new Scheduler();

event.saveGlobalThisReference(globalThis);
event.setEventTargetData(globalThis);
for (const name of ["error", "unhandledrejection", "rejectionhandled"]) {
  event.defineEventHandler(globalThis, name);
}
const listen = event.EventTarget.prototype.addEventListener;
ObjectDefineProperty(globalThis, "addEventListener", {
  configurable: true,
  writable: true,
  value(type, ...rest) {
    if (["fetch", "scheduled", "queue", "email", "tail", "trace"].includes(type)) {
      throw new Error(
        `addEventListener("${type}") is the service-worker format, which is not available; ` +
          `use \`export default { ${type}(...) { ... } }\``,
      );
    }
    return Reflect.apply(listen, globalThis, [type, ...rest]);
  },
});

core.setUnhandledPromiseRejectionHandler(onUnhandledRejection);
core.setHandledPromiseRejectionHandler(onHandledRejection);
core.setReportExceptionCallback(event.reportException);
core.setBuildInfo("x86_64-unknown-linux-gnu");

// Node built-ins are loaded on first import; they take these when they are.
internals.__nodeBootstrapArgs = {
  usesLocalNodeModulesDir: false,
  runningOnMainThread: true,
  argv0: "verge",
  denoArgs: [],
  denoVersion: {},
  nodeDebug: "",
};

// The two functions in parentheses run before an app's first line, while somebody waits. By
// that sign V8 compiles them when this file is, and so they are in the snapshot compiled.

/** `WebAssembly.Memory` that cannot be shared. */
const memoryOfOneIsolate = (function memoryOfOneIsolate(Memory) {
  const ofOneIsolate = new Proxy(Memory, {
    construct(target, args, newTarget) {
      const { initial, maximum, shared, address } = args[0] ?? {};
      if (shared) {
        throw new TypeError("WebAssembly.Memory: shared memory is not available");
      }
      const descriptor = { initial };
      if (maximum !== undefined) descriptor.maximum = maximum;
      if (address !== undefined) descriptor.address = address;
      return Reflect.construct(target, [descriptor], newTarget === ofOneIsolate ? target : newTarget);
    },
  });
  ObjectDefineProperty(Memory.prototype, "constructor", {
    value: ofOneIsolate,
    writable: true,
    configurable: true,
  });
  return ofOneIsolate;
});

/** Runs once in an isolate that was claimed for an app, before the app's first line. */
const install = (function install(config) {
  // V8 adds to the global object when it makes a context from the snapshot, so what takes
  // from it comes after.
  delete Intl.v8BreakIterator;
  // No shared memory between or within apps: it is a clock fine enough for Spectre.
  delete globalThis.SharedArrayBuffer;
  WebAssembly.Memory = memoryOfOneIsolate(WebAssembly.Memory);
  setTimeOrigin();
  ObjectSetPrototypeOf(globalThis, ServiceWorkerGlobalScope.prototype);
  installEnv(config.bindings);
  // Kept by the isolate and not by the snapshot.
  op_set_wasm_streaming_callback((source, rid) =>
    core.loadExtScript("ext:deno_fetch/26_fetch.js").handleWasmStreaming(source, rid)
  );
  // The engine's own `Deno` reaches every op; what an app may see instead is its own.
  delete globalThis.Deno;
  delete globalThis.__bootstrap;
  if (config.deno) {
    ObjectDefineProperty(globalThis, "Deno", {
      value: denoNamespace(config.version),
      writable: true,
      configurable: true,
      enumerable: false,
    });
  }
});

const modules = {
  data: (path) => op_verge_module_data(path).buffer,
  wasm: (path) => op_verge_wasm_module(path),
};
internals.vergeModules = modules;

// Functions that ran while the snapshot was made are in it compiled. So the way of a request
// is walked once here, with an id that names no exchange.
function warmUp() {
  const NOTHING = 0, GET = 0, POST = 2;
  const handler = (request) => {
    const headers = new Headers({ "content-type": "text/html", "x-a": "b" });
    new URL("http://warm.example/up?a=b").searchParams.get("a");
    request.method;
    request.signal;
    new Request("http://warm.example/", { method: "POST", headers, body: "x" });
    return new Response("<p>", { status: 200, headers });
  };
  installEnv([["A", "var", "b"]]);
  installExports({ default: { fetch: handler } });
  onFetch(NOTHING, GET, false);
  installExports({ default: { fetch: () => Response.json({ a: 1 }) } });
  onFetch(NOTHING, POST, false);
  installExports({ default: { fetch: async () => new Response("text") } });
  onFetch(NOTHING, GET, false);
  new Response(new ReadableStream({ pull(controller) { controller.close(); } })).body.getReader();
  new TextDecoder().decode(new TextEncoder().encode("text"));
  setTimeOrigin();
  reset();
}
warmUp();

// What Rust takes by name after the snapshot is loaded, and then removes.
globalThis.__verge = {
  install,
  installExports,
  onCall,
  onEntrypointFetch,
  onFetch,
  onScheduled,
};
export { modules };
