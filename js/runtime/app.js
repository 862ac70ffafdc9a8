// The app in this isolate: its exports, its `env`, and what happens when a request comes.

import { core, primordials } from "ext:core/mod.js";
import { enter, leave, runtime } from "ext:verge_engine/context.js";
import { inspect, log } from "ext:verge_engine/console.js";
import { servedHandler } from "ext:verge_engine/deno_namespace.js";
import { ExecutionContext, RequestState } from "ext:verge_engine/execution_context.js";
import { event } from "ext:verge_engine/globals.js";
import { incomingRequest } from "ext:verge_engine/incoming.js";
import { respond } from "ext:verge_engine/respond.js";
import { answerCall, serviceStub } from "ext:verge_engine/services.js";
import { database, isUnavailable } from "ext:verge_engine/sql_database.js";

const { op_verge_event_done, op_verge_fail, op_verge_remote_addr } = core.ops;
const { Error, ObjectFreeze, PromisePrototype, PromisePrototypeThen, ObjectPrototypeIsPrototypeOf, TypeError } =
  primordials;

let exported = null;
let fetchHandler = null;

/** Makes `env` from the deployment's bindings: `[name, kind, value]` each. */
export function installEnv(bindings) {
  const env = {};
  for (let i = 0; i < bindings.length; i++) {
    const { 0: name, 1: kind, 2: value } = bindings[i];
    if (kind === "var") env[name] = value;
    else if (kind === "service") env[name] = serviceStub(name, true);
    else if (kind === "assets") env[name] = serviceStub(name, false);
    else if (kind === "database") env[name] = database(name);
  }
  runtime.env = env;
  return env;
}

function isClass(value) {
  return typeof value === "function" && value.prototype !== undefined &&
    Object.getOwnPropertyDescriptor(value, "prototype")?.writable === false;
}

/** Finds the handlers among the main module's exports. Throws if nothing can answer. */
export function installExports(namespace) {
  exported = namespace;
  const main = namespace.default;
  const served = servedHandler();
  if (served !== null) {
    fetchHandler = (request, _env, _ctx, state) => served(request, serveInfo(state));
  } else if (isClass(main)) {
    fetchHandler = typeof main.prototype.fetch === "function"
      ? (request, env, ctx) => new main(ctx, env).fetch(request)
      : null;
  } else if (typeof main === "object" && main !== null && typeof main.fetch === "function") {
    // Looked up at each request: apps replace methods of their default export.
    fetchHandler = (request, env, ctx) => main.fetch(request, env, ctx);
  }
  const others = main !== undefined ||
    Object.keys(namespace).some((name) => isClass(namespace[name]));
  if (fetchHandler === null && !others) {
    throw new TypeError(
      "The main module answers no requests: it must `export default { fetch(request, env, ctx) { ... } }` " +
        "or call Deno.serve(handler)",
    );
  }
}

/** As before any app: used once, when the snapshot is made. */
export function reset() {
  exported = null;
  fetchHandler = null;
  runtime.env = { __proto__: null };
}

function serveInfo(state) {
  return {
    get remoteAddr() {
      const { 0: hostname, 1: port } = op_verge_remote_addr(state.id);
      return { transport: "tcp", hostname, port };
    },
    get completed() {
      return Promise.resolve();
    },
  };
}

/** Called by Rust for each request. */
export function onFetch(id, method, hasBody) {
  const state = new RequestState(id);
  const before = enter(state);
  try {
    if (fetchHandler === null) {
      throw new TypeError("The app's default export has no fetch() handler");
    }
    const request = incomingRequest(id, method, hasBody);
    settle(state, fetchHandler(request, runtime.env, new ExecutionContext(state, undefined), state));
  } catch (error) {
    fail(id, error);
  } finally {
    leave(before);
  }
}

function settle(state, result) {
  if (typeof result === "object" && result !== null && ObjectPrototypeIsPrototypeOf(PromisePrototype, result)) {
    PromisePrototypeThen(result, (response) => answer(state, response), (error) => fail(state.id, error));
  } else if (typeof result?.then === "function") {
    PromisePrototypeThen(
      Promise.resolve(result),
      (response) => answer(state, response),
      (error) => fail(state.id, error),
    );
  } else {
    answer(state, result);
  }
}

function answer(state, response) {
  try {
    respond(state.id, response);
  } catch (error) {
    fail(state.id, error);
  }
}

/** The stack and those of what caused it, at most so many: causes may go in a circle. */
function withCauses(error) {
  let text = `${error.stack ?? error}`;
  for (let depth = 0; depth < 5 && error.cause !== undefined && error.cause !== null; depth++) {
    error = error.cause;
    text += `\nCaused by: ${error.stack ?? inspect(error)}`;
    if (!(error instanceof Error)) break;
  }
  return text;
}

/** The exchange ends in an error page; `error` may be anything that was thrown. */
function fail(id, error) {
  let text;
  try {
    text = error instanceof Error
      ? withCauses(error)
      : `Uncaught ${inspect(error)}`;
  } catch {
    text = "Uncaught (an error that cannot be shown)";
  }
  let limit = "";
  try {
    if (error?.name === "LimitError" && typeof error.code === "string") limit = error.code;
    // What a database could not do now, a moment later it may: 503 and not 500.
    else if (isUnavailable(error)) limit = "database_unavailable";
  } catch {
    // What was thrown throws when it is looked at.
  }
  op_verge_fail(id, limit, text);
}

/** An entrypoint of the app: the default export or a named class. */
function entrypoint(name, context) {
  const value = name === "" ? exported.default : exported[name];
  if (isClass(value)) return new value(context, runtime.env);
  if (name === "" && typeof value === "object" && value !== null) return value;
  throw new TypeError(
    name === ""
      ? "The app has no default export to call"
      : `The app has no exported class "${name}" (an entrypoint extends WorkerEntrypoint)`,
  );
}

/** `fetch` to a named entrypoint through a service binding. */
export function onEntrypointFetch(id, method, hasBody, name, props) {
  const state = new RequestState(id);
  const before = enter(state);
  try {
    const target = entrypoint(name, new ExecutionContext(state, ObjectFreeze(props ?? {})));
    if (typeof target.fetch !== "function") throw new TypeError(`Entrypoint "${name}" has no fetch()`);
    settle(state, target.fetch(incomingRequest(id, method, hasBody)));
  } catch (error) {
    fail(id, error);
  } finally {
    leave(before);
  }
}

/** An RPC call through a service binding. */
export function onCall(id, name, props, method, args) {
  const state = new RequestState(id);
  const before = enter(state);
  try {
    let target;
    try {
      target = entrypoint(name, new ExecutionContext(state, ObjectFreeze(props ?? {})));
    } catch (error) {
      op_verge_event_done(id, core.serialize({ ok: false, name: error.name, message: error.message }));
      return;
    }
    PromisePrototypeThen(
      answerCall(target, method, args),
      (bytes) => op_verge_event_done(id, bytes),
      (error) => fail(id, error),
    );
  } finally {
    leave(before);
  }
}

/** A cron trigger. */
export function onScheduled(id, cron, scheduledTime) {
  const state = new RequestState(id);
  const before = enter(state);
  try {
    const context = new ExecutionContext(state, undefined);
    const controller = { cron, scheduledTime, type: "scheduled", noRetry() {} };
    const main = exported.default;
    const handler = isClass(main) ? new main(context, runtime.env) : main;
    if (typeof handler?.scheduled !== "function") {
      throw new TypeError("The app's default export has no scheduled() handler");
    }
    PromisePrototypeThen(
      (async () => await handler.scheduled(controller, runtime.env, context))(),
      () => op_verge_event_done(id, new Uint8Array()),
      (error) => fail(id, error),
    );
  } catch (error) {
    fail(id, error);
  } finally {
    leave(before);
  }
}

/** A rejection that nobody caught: an event, and logged unless that was prevented. */
export function onUnhandledRejection(promise, reason) {
  const rejection = new event.PromiseRejectionEvent("unhandledrejection", {
    cancelable: true,
    promise,
    reason,
  });
  if (event.EventTarget.prototype.dispatchEvent.call(globalThis, rejection)) {
    log(3, "Uncaught (in promise)", reason);
  }
  return true;
}

/** Somebody caught it after all. */
export function onHandledRejection(promise, reason) {
  const rejection = new event.PromiseRejectionEvent("rejectionhandled", { promise, reason });
  event.EventTarget.prototype.dispatchEvent.call(globalThis, rejection);
}
