// Which request the running code belongs to.
//
// V8 carries one value across awaits ("continuation-preserved embedder data"). It holds a
// frame: a plain object whose `verge` property is the request's context. AsyncLocalStorage
// copies the frame's properties into its own frames, so both live together. Rust reads
// `verge.id` from it when it has to say which request is using the CPU.

import { core } from "ext:core/mod.js";

const { getAsyncContext, setAsyncContext } = core;

/** What is the app's alone: `env` is set before its first line runs. */
export const runtime = { env: { __proto__: null } };

/** The context of the running request, or `undefined` in top-level code. */
export function current() {
  return getAsyncContext()?.verge;
}

/** The id of the running request, or 0. */
export function currentId() {
  return getAsyncContext()?.verge?.id ?? 0;
}

/** Makes `context` the current one; returns what `leave` takes. */
export function enter(context) {
  const before = getAsyncContext();
  setAsyncContext(context.frame);
  return before;
}

export function leave(before) {
  setAsyncContext(before);
}
