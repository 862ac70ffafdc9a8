// The module `cloudflare:workers`.

import { primordials } from "ext:core/mod.js";
import { current, runtime } from "ext:verge_engine/context.js";

const { Error, Proxy, Reflect } = primordials;

export class WorkerEntrypoint {
  constructor(ctx, env) {
    this.ctx = ctx;
    this.env = env;
  }
}

export class RpcTarget {}
export class RpcStub {
  constructor() {
    missing("RpcStub");
  }
}

function missing(name) {
  throw new Error(`${name} from "cloudflare:workers" is not available in this version of Verge`);
}

export class DurableObject {
  constructor() {
    missing("DurableObject");
  }
}
export class WorkflowEntrypoint {
  constructor() {
    missing("WorkflowEntrypoint");
  }
}

/** The bindings, also outside a handler. */
export const env = new Proxy({}, {
  __proto__: null,
  get: (_, name) => runtime.env[name],
  has: (_, name) => Reflect.has(runtime.env, name),
  ownKeys: () => Reflect.ownKeys(runtime.env),
  getOwnPropertyDescriptor: (_, name) => Reflect.getOwnPropertyDescriptor(runtime.env, name),
});

export function waitUntil(promise) {
  const state = current();
  if (state === undefined) throw new Error("waitUntil() was called outside a request");
  state.hold(promise);
}

export const exports = new Proxy({}, {
  __proto__: null,
  get(_, name) {
    if (typeof name === "symbol") return undefined;
    missing("exports");
  },
});
export function withEnv() {
  missing("withEnv");
}
