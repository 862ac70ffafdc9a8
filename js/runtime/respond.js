// From the app's Response to the wire, by the cheapest way that keeps its meaning.

import { core, primordials } from "ext:core/mod.js";
import { acceptWebSocket, webSocketOf } from "ext:verge_engine/websocket_pair.js";

const {
  op_verge_respond_bytes,
  op_verge_respond_empty,
  op_verge_respond_stream,
  op_verge_respond_text,
} = core.ops;
const { ArrayPrototypePush, TypeError } = primordials;

const {
  getInnerResponse,
  responseBodyUsed,
  serveFastBodyKey,
  serveFastConsumedKey,
  serveFastContentTypeKey,
  serveFastHeaderKindKey,
  SERVE_FAST_HEADER_DEFAULT_TEXT,
  serveFastStatusKey,
  toInnerResponse,
  wireHeaderList,
} = core.loadExtScript("ext:deno_fetch/23_response.js");
const { resourceForReadableStream } = core.loadExtScript("ext:deno_web/06_streams.js");

function flatten(list) {
  const flat = [];
  for (let i = 0; i < list.length; i++) {
    ArrayPrototypePush(flat, list[i][0], list[i][1]);
  }
  return flat;
}

/** Hands `response` to the exchange. Throws a TypeError if it is none that can be sent. */
export function respond(id, response) {
  if (typeof response !== "object" || response === null || getInnerResponse(response) === undefined) {
    throw new TypeError(
      `The handler must return a Response, or a promise of one; it returned ${describe(response)}`,
    );
  }

  // A string or bytes with at most a content type: no header list is ever made.
  const fastStatus = response[serveFastStatusKey];
  if (fastStatus !== 0 && response[serveFastBodyKey] !== null && !responseBodyUsed(response)) {
    const body = response[serveFastBodyKey];
    const contentType = response[serveFastHeaderKindKey] === SERVE_FAST_HEADER_DEFAULT_TEXT
      ? "text/plain;charset=UTF-8"
      : response[serveFastContentTypeKey] ?? "";
    response[serveFastConsumedKey] = true;
    if (typeof body === "string") {
      op_verge_respond_text(id, fastStatus, contentType, body);
    } else {
      op_verge_respond_bytes(id, fastStatus, contentType === "" ? [] : ["content-type", contentType], body);
    }
    return;
  }

  const webSocket = webSocketOf(response);
  if (webSocket !== undefined) {
    acceptWebSocket(id, webSocket, flatten(toInnerResponse(response).headerList));
    return;
  }

  if (responseBodyUsed(response)) {
    throw new TypeError("The handler returned a Response whose body has already been used");
  }
  const inner = toInnerResponse(response);
  if (inner.type === "error") {
    throw new TypeError("The handler returned Response.error(); return a Response with a status");
  }
  const headers = flatten(wireHeaderList(inner));
  if (inner.body === null) {
    op_verge_respond_empty(id, inner.status, headers);
    return;
  }
  const { streamOrStatic } = inner.body;
  const { body } = streamOrStatic;
  if (body === undefined) {
    op_verge_respond_stream(
      id,
      inner.status,
      headers,
      resourceForReadableStream(inner.body.stream, inner.body.length),
    );
    return;
  }
  streamOrStatic.consumed = true;
  op_verge_respond_bytes(id, inner.status, headers, typeof body === "string" ? core.encode(body) : body);
}

function describe(value) {
  if (value === null) return "null";
  if (typeof value !== "object" && typeof value !== "function") return `${typeof value}`;
  return `an object of type ${value?.constructor?.name ?? "Object"}`;
}
