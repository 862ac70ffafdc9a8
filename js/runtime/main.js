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
import { event, setTimeOrigin } from "ext:verge_engine/globals.js";
import "ext:verge_engine/node_host.js";
import "ext:verge_engine/outbound.js";
import { Request } from "ext:verge_engine/incoming.js";
import { Response, WebSocketPair } from "ext:verge_engine/websocket_pair.js";
import "ext:verge_engine/workers_crypto.js";

const { Error, ObjectDefineProperty, ObjectSetPrototypeOf } = primordials;
const { op_set_wasm_streaming_callback, op_verge_module_data, op_verge_wasm_module } = core.ops;

const USER_AGENT = "Cloudflare-Workers";

core.defineGlobalProperties(globalThis, {
  Request: core.propNonEnumerable(Request),
  Response: core.propNonEnumerable(Response),
  HTMLRewriter: core.propNonEnumerableLazyLoaded(
    (module) => module.HTMLRewriter,
    core.createLazyLoader("ext:verge_engine/html_rewriter.js"),
  ),
  WebSocketPair: core.propNonEnumerable(WebSocketPair),
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

/** `WebAssembly.Memory` that cannot be shared. */
function memoryOfOneIsolate(Memory) {
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
}

/**
 * Runs once in an isolate that was claimed for an app, before the app's first line. `scope` and
 * `onWasmStreaming` are others only when it is walked through below.
 */
function install(config, scope = globalThis, onWasmStreaming = op_set_wasm_streaming_callback) {
  // V8 adds to the global object when it makes a context from the snapshot, so what takes
  // from it comes after.
  delete scope.Intl.v8BreakIterator;
  // No shared memory between or within apps: it is a clock fine enough for Spectre.
  delete scope.SharedArrayBuffer;
  scope.WebAssembly.Memory = memoryOfOneIsolate(scope.WebAssembly.Memory);
  setTimeOrigin();
  ObjectSetPrototypeOf(scope, ServiceWorkerGlobalScope.prototype);
  installEnv(config.bindings);
  // Kept by the isolate and not by the snapshot.
  onWasmStreaming((source, rid) =>
    core.loadExtScript("ext:deno_fetch/26_fetch.js").handleWasmStreaming(source, rid)
  );
  // The engine's own `Deno` reaches every op; what an app may see instead is its own.
  delete scope.Deno;
  delete scope.__bootstrap;
  if (config.deno) {
    ObjectDefineProperty(scope, "Deno", {
      value: denoNamespace(config.version),
      writable: true,
      configurable: true,
      enumerable: false,
    });
  }
}

const modules = {
  data: (path) => op_verge_module_data(path).buffer,
  wasm: (path) => op_verge_wasm_module(path),
};
internals.vergeModules = modules;

/**
 * Walks the way of an isolate's first request, with an id that names no exchange. The build
 * script calls it last, when it has thrown away the code of all that only had to run once:
 * what runs here is in the snapshot compiled.
 */
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
  const scope = { Intl: {}, WebAssembly: { Memory: class {} } };
  install({ bindings: [["A", "var", "b"]], deno: false }, scope, () => {});
  installExports({ default: { fetch: handler } });
  onFetch(NOTHING, GET, false);
  installExports({ default: { fetch: () => Response.json({ a: 1 }) } });
  onFetch(NOTHING, POST, false);
  installExports({ default: { fetch: async () => new Response("text") } });
  onFetch(NOTHING, GET, false);
  new Response(new ReadableStream({ pull(controller) { controller.close(); } })).body.getReader();
  new TextDecoder().decode(new TextEncoder().encode("text"));
  reset();
}

// What Rust takes by name after the snapshot is loaded, and then removes.
globalThis.__verge = {
  install,
  installExports,
  onCall,
  onEntrypointFetch,
  onFetch,
  onScheduled,
  warmUp,
};
export { modules };
