// A request as the app sees it, backed by an exchange that lives in Rust.
//
// Nothing is copied into JS before the app asks for it. What the app may still read after
// the exchange is gone (URL, headers) throws a TypeError that says so, never another
// request's data: exchange ids are not used again.

import { core, primordials } from "ext:core/mod.js";

const {
  op_verge_request_body_bytes,
  op_verge_request_body_stream,
  op_verge_request_cancelled,
  op_verge_request_cf,
  op_verge_request_header,
  op_verge_request_headers,
  op_verge_request_method,
  op_verge_request_url,
} = core.ops;
const { ArrayPrototypePush, JSONParse, PromisePrototypeThen, TypedArrayPrototypeGetByteLength } =
  primordials;

const { InnerBody } = core.loadExtScript("ext:deno_fetch/22_body.js");
const { fromInnerRequest, Request, RequestPrototype, toInnerRequest } = core.loadExtScript(
  "ext:deno_fetch/23_request.js",
);
const { readableStreamForRid } = core.loadExtScript("ext:deno_web/06_streams.js");

const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

class IncomingRequest {
  #id;
  #method;
  #url;
  #body;
  #cf;

  constructor(id, method, hasBody) {
    this.#id = id;
    this.#method = METHODS[method];
    this.#body = hasBody ? undefined : null;
    // The fields that Request and cloneInnerRequest read.
    this.redirectMode = "follow";
    this.redirectCount = 0;
    this.clientRid = null;
    this.blobUrlEntry = null;
  }

  get method() {
    return this.#method ??= op_verge_request_method(this.#id);
  }

  url() {
    return this.#url ??= op_verge_request_url(this.#id);
  }

  currentUrl() {
    return this.url();
  }

  get urlList() {
    return [() => this.url()];
  }

  get urlListProcessed() {
    return [this.url()];
  }

  get headerList() {
    const flat = op_verge_request_headers(this.#id);
    const list = [];
    for (let i = 0; i < flat.length; i += 2) {
      ArrayPrototypePush(list, [flat[i], flat[i + 1]]);
    }
    return list;
  }

  header(name) {
    return op_verge_request_header(this.#id, name);
  }

  get body() {
    if (this.#body !== undefined) return this.#body;
    const bytes = op_verge_request_body_bytes(this.#id);
    if (bytes !== null) {
      this.#body = new InnerBody({ body: bytes, consumed: false });
      this.#body.length = TypedArrayPrototypeGetByteLength(bytes);
    } else {
      this.#body = new InnerBody(
        readableStreamForRid(op_verge_request_body_stream(this.#id), true),
      );
    }
    return this.#body;
  }

  /** Calls back if the client goes away before it has its whole answer. */
  onCancel(callback) {
    PromisePrototypeThen(op_verge_request_cancelled(this.#id), (cancelled) => {
      if (cancelled) callback();
    });
  }

  get cf() {
    return this.#cf ??= JSONParse(op_verge_request_cf(this.#id));
  }
}

// `request.cf`: Workers' geographic and connection properties.
Object.defineProperty(RequestPrototype, "cf", {
  configurable: true,
  enumerable: true,
  get() {
    return toInnerRequest(this)?.cf;
  },
});

// What the standard's `Request` says of itself in a browser; here it is always the same.
const SAME_FOR_ALL = {
  cache: "default",
  destination: "",
  duplex: "half",
  integrity: "",
  isHistoryNavigation: false,
  isReloadNavigation: false,
  keepalive: false,
  mode: "cors",
  credentials: "same-origin",
  referrer: "about:client",
  referrerPolicy: "",
};
for (const name of Object.keys(SAME_FOR_ALL)) {
  if (name in RequestPrototype) continue;
  Object.defineProperty(RequestPrototype, name, {
    configurable: true,
    enumerable: true,
    get: () => SAME_FOR_ALL[name],
  });
}

/** The `Request` for an exchange. `method` indexes METHODS, -1 for any other. */
export function incomingRequest(id, method, hasBody) {
  return fromInnerRequest(new IncomingRequest(id, method, hasBody), "immutable");
}

export { Request, toInnerRequest };
