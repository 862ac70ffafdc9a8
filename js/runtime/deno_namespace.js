// `Deno`: what a Deno program needs to answer requests. What touches the machine is not
// there, and says so by name.

import { core, primordials } from "ext:core/mod.js";
import { runtime } from "ext:verge_engine/context.js";
import { errors } from "ext:verge_engine/errors.js";

const { Error, ObjectKeys, Proxy, TypeError } = primordials;
const { inspect } = core.loadExtScript("ext:deno_web/01_console.js");

let served = null;

/** The handler given to `Deno.serve`, or null. */
export function servedHandler() {
  return served;
}

function serve(first, second) {
  let handler = first, options = {};
  if (typeof first === "object" && first !== null) {
    options = first;
    handler = second ?? first.handler;
  } else if (typeof second === "object" && second !== null) {
    throw new TypeError("Deno.serve(handler, options) is not a form of Deno.serve; use Deno.serve(options, handler)");
  }
  if (typeof handler !== "function") throw new TypeError("Deno.serve() takes a handler function");
  if (served !== null) throw new Error("Deno.serve() was called twice; an app has one handler");
  const onError = options.onError;
  served = onError === undefined ? handler : async (request, info) => {
    try {
      return await handler(request, info);
    } catch (error) {
      return await onError(error);
    }
  };
  const addr = { transport: "tcp", hostname: "0.0.0.0", port: 0 };
  const finished = new Promise(() => {});
  options.onListen?.(addr);
  return {
    addr,
    finished,
    ref() {},
    unref() {},
    shutdown: () => Promise.reject(new Error("Deno.serve().shutdown(): the platform stops an app, not the app")),
  };
}

/** The app's string variables as an environment; also what `process.env` shows. */
export const appEnvironment = {
  get: (name) => typeof runtime.env[name] === "string" ? runtime.env[name] : undefined,
  has: (name) => typeof runtime.env[name] === "string",
  toObject() {
    const all = {};
    for (const name of ObjectKeys(runtime.env)) {
      if (typeof runtime.env[name] === "string") all[name] = runtime.env[name];
    }
    return all;
  },
  set() {
    throw new errors.NotSupported("Deno.env.set(): an app's variables are set by its configuration");
  },
  delete() {
    throw new errors.NotSupported("Deno.env.delete(): an app's variables are set by its configuration");
  },
};

/** Builds the `Deno` that an app sees. */
export function denoNamespace(version) {
  const there = {
    __proto__: null,
    args: [],
    build: { os: "linux", arch: "x86_64", vendor: "unknown", env: "gnu", target: "x86_64-unknown-linux-gnu", standalone: false },
    env: appEnvironment,
    errors,
    inspect,
    noColor: true,
    serve,
    version: { deno: version, v8: "", typescript: "" },
    [Symbol.toStringTag]: "Deno",
  };
  return new Proxy(there, {
    __proto__: null,
    get(target, name) {
      if (name in target || typeof name === "symbol") return target[name];
      // `customInspect` and the like are asked for by feature detection.
      if (name === "internal" || name === "customInspect" || name === "test" || name === "bench") return undefined;
      throw new errors.NotSupported(
        `Deno.${name} is not available: apps have no file system, processes or listening sockets of their own`,
      );
    },
  });
}
