// Bindings that lead to another app (or to the app's own assets): fetch and RPC.

import { core, primordials } from "ext:core/mod.js";
import { currentId } from "ext:verge_engine/context.js";

const { op_verge_service_fetch, op_verge_service_rpc, op_verge_subrequest } = core.ops;
const { ArrayPrototypePush, Error, Proxy, TypeError } = primordials;

const { Request, toInnerRequest } = core.loadExtScript("ext:deno_fetch/23_request.js");
const { fromInnerResponse, newInnerResponse } = core.loadExtScript("ext:deno_fetch/23_response.js");
const { InnerBody } = core.loadExtScript("ext:deno_fetch/22_body.js");
const { readableStreamForRid, resourceForReadableStream } = core.loadExtScript(
  "ext:deno_web/06_streams.js",
);

async function serviceFetch(binding, input, init) {
  const request = new Request(
    typeof input === "string" && input.startsWith("/") ? `http://${binding.toLowerCase()}${input}` : input,
    init,
  );
  const id = currentId();
  op_verge_subrequest(id);
  const inner = toInnerRequest(request);
  const flat = [];
  for (const { 0: name, 1: value } of request.headers) ArrayPrototypePush(flat, name, value);
  let bytes = null;
  let rid = null;
  if (inner.body !== null) {
    const { body } = inner.body.streamOrStatic;
    if (body !== undefined) {
      inner.body.streamOrStatic.consumed = true;
      bytes = typeof body === "string" ? core.encode(body) : body;
    } else {
      rid = resourceForReadableStream(inner.body.stream, inner.body.length);
    }
  }
  const { 0: status, 1: headers, 2: bodyRid } = await op_verge_service_fetch(
    id,
    binding,
    request.method,
    request.url,
    flat,
    bytes,
    rid,
  );
  const response = newInnerResponse(status);
  for (let i = 0; i < headers.length; i += 2) {
    ArrayPrototypePush(response.headerList, [headers[i], headers[i + 1]]);
  }
  response.urlList = [request.url];
  if (bodyRid !== null) response.body = new InnerBody(readableStreamForRid(bodyRid, true));
  return fromInnerResponse(response, "immutable");
}

function serialize(binding, method, args) {
  try {
    return core.serialize(args);
  } catch (cause) {
    throw new TypeError(
      `env.${binding}.${method}(): an argument cannot be sent to another app: ${cause.message}. ` +
        "Functions, RpcTarget objects and streams are not passed between apps in this version; send plain data",
      { cause },
    );
  }
}

async function serviceCall(binding, method, args) {
  const id = currentId();
  op_verge_subrequest(id);
  const reply = core.deserialize(
    await op_verge_service_rpc(id, binding, method, serialize(binding, method, args)),
  );
  if (reply.ok) return reply.value;
  const cls = { Error, TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError }[
    reply.name
  ] ?? Error;
  const error = new cls(reply.message);
  if (error.name !== reply.name) error.name = reply.name;
  error.remote = true;
  throw error;
}

// Names that must stay undefined, or a binding would look like a promise or leak into JSON.
const NOT_METHODS = { __proto__: null, then: true, catch: true, finally: true, toJSON: true };

/** `env.<binding>` of a service: `fetch()`, and any method of its WorkerEntrypoint. */
export function serviceStub(binding, rpc) {
  const target = { fetch: (input, init) => serviceFetch(binding, input, init) };
  if (!rpc) return target;
  return new Proxy(target, {
    __proto__: null,
    get(target, name) {
      if (name === "fetch") return target.fetch;
      if (typeof name === "symbol" || NOT_METHODS[name]) return undefined;
      if (name === "connect") {
        throw new Error(`env.${binding}.connect() is not available: service bindings carry fetch and RPC`);
      }
      return (...args) => serviceCall(binding, name, args);
    },
    set() {
      throw new TypeError(`env.${binding} is a service binding; it has no settable properties`);
    },
  });
}

/** Runs an RPC call that came in; gives the serialized reply. */
export async function answerCall(target, method, bytes) {
  try {
    const own = target === null || target === undefined ? undefined : target[method];
    const forbidden = method === "constructor" || method === "fetch" || method.startsWith("_") ||
      method in Object.prototype;
    if (forbidden || typeof own !== "function") {
      throw new TypeError(`The RPC receiver does not implement the method "${method}"`);
    }
    const value = await Reflect.apply(own, target, core.deserialize(bytes));
    try {
      return core.serialize({ ok: true, value });
    } catch (cause) {
      throw new TypeError(
        `The result of "${method}" cannot be sent to another app: ${cause.message}. ` +
          "Functions, RpcTarget objects and streams are not passed between apps in this version; return plain data",
      );
    }
  } catch (error) {
    return core.serialize({
      ok: false,
      name: `${error?.name ?? "Error"}`,
      message: `${error?.message ?? error}`,
    });
  }
}
