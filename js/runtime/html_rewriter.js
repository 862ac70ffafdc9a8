// `HTMLRewriter`, as Workers has it. The parser is in Rust and stands still while a handler
// runs (crates/engine/src/html_rewriter): here it is fed, and its handlers are called.

import { core, primordials } from "ext:core/mod.js";
import { Response } from "ext:verge_engine/websocket_pair.js";

const {
  op_verge_html_attribute,
  op_verge_html_attributes,
  op_verge_html_check,
  op_verge_html_end,
  op_verge_html_identifiers,
  op_verge_html_insert,
  op_verge_html_is_last,
  op_verge_html_is_removed,
  op_verge_html_name,
  op_verge_html_namespace,
  op_verge_html_new,
  op_verge_html_on_end_tag,
  op_verge_html_output,
  op_verge_html_remove,
  op_verge_html_remove_attribute,
  op_verge_html_resume,
  op_verge_html_set_attribute,
  op_verge_html_set_name,
  op_verge_html_set_text,
  op_verge_html_text,
  op_verge_html_write,
} = core.ops;
const {
  ArrayPrototypePush,
  ArrayPrototypeSlice,
  ArrayPrototypeValues,
  ObjectPrototypeIsPrototypeOf,
  RegExpPrototypeExec,
  String,
  Symbol,
  TypeError,
} = primordials;

const { ReadableStream } = core.loadExtScript("ext:deno_web/06_streams.js");
const { Headers } = core.loadExtScript("ext:deno_fetch/20_headers.js");

// The steps of the parser; a handler's number is counted from CALL.
const CALL = 2;
// Where content goes.
const BEFORE = 0, AFTER = 1, PREPEND = 2, APPEND = 3, INNER = 4, REPLACE = 5;

const CHARSET = /charset\s*=\s*"?([^\s;"]+)/i;
const secret = Symbol("token");

/** What a token belongs to. Not a method: that would be a way for apps to the parser. */
let rewritingOf;

/** What all tokens share. They are of use only while their handler runs. */
class Token {
  #rewriting;

  constructor(key, rewriting) {
    if (key !== secret) throw new TypeError("Illegal constructor");
    this.#rewriting = rewriting;
  }

  static {
    rewritingOf = (token) => {
      const rewriting = token.#rewriting;
      if (rewriting.token !== token) {
        throw new TypeError(
          "This content token is no longer valid: tokens are only valid while their handler runs",
        );
      }
      return rewriting;
    };
  }
}

const documentOf = (token) => rewritingOf(token).document;

function insert(token, place, content, options) {
  const document = documentOf(token);
  if (typeof content === "object" && content !== null) {
    throw new TypeError(
      `HTMLRewriter: content must be a string; a ${content.constructor?.name ?? "object"} is not available as content`,
    );
  }
  op_verge_html_insert(document, place, String(content), options?.html === true);
  return token;
}

function remove(token, keepContent) {
  op_verge_html_remove(documentOf(token), keepContent);
  return token;
}

class Element extends Token {
  get tagName() {
    return op_verge_html_name(documentOf(this));
  }
  set tagName(name) {
    op_verge_html_set_name(documentOf(this), String(name));
  }
  /** An iterator of `[name, value]`. */
  get attributes() {
    return ArrayPrototypeValues(op_verge_html_attributes(documentOf(this)));
  }
  get removed() {
    return op_verge_html_is_removed(documentOf(this));
  }
  get namespaceURI() {
    return op_verge_html_namespace(documentOf(this));
  }
  getAttribute(name) {
    return op_verge_html_attribute(documentOf(this), String(name));
  }
  hasAttribute(name) {
    return op_verge_html_attribute(documentOf(this), String(name)) !== null;
  }
  setAttribute(name, value) {
    op_verge_html_set_attribute(documentOf(this), String(name), String(value));
    return this;
  }
  removeAttribute(name) {
    op_verge_html_remove_attribute(documentOf(this), String(name));
    return this;
  }
  before(content, options) {
    return insert(this, BEFORE, content, options);
  }
  after(content, options) {
    return insert(this, AFTER, content, options);
  }
  prepend(content, options) {
    return insert(this, PREPEND, content, options);
  }
  append(content, options) {
    return insert(this, APPEND, content, options);
  }
  setInnerContent(content, options) {
    return insert(this, INNER, content, options);
  }
  replace(content, options) {
    return insert(this, REPLACE, content, options);
  }
  remove() {
    return remove(this, false);
  }
  removeAndKeepContent() {
    return remove(this, true);
  }
  onEndTag(handler) {
    if (typeof handler !== "function") throw new TypeError("onEndTag() takes a function");
    const rewriting = rewritingOf(this);
    op_verge_html_on_end_tag(rewriting.document, rewriting.handlers.length);
    ArrayPrototypePush(rewriting.handlers, { of: undefined, call: handler, kind: EndTag });
  }
}

class Text extends Token {
  get text() {
    return op_verge_html_text(documentOf(this));
  }
  get lastInTextNode() {
    return op_verge_html_is_last(documentOf(this));
  }
  get removed() {
    return op_verge_html_is_removed(documentOf(this));
  }
  before(content, options) {
    return insert(this, BEFORE, content, options);
  }
  after(content, options) {
    return insert(this, AFTER, content, options);
  }
  replace(content, options) {
    return insert(this, REPLACE, content, options);
  }
  remove() {
    return remove(this, false);
  }
}

class Comment extends Token {
  get text() {
    return op_verge_html_text(documentOf(this));
  }
  set text(text) {
    op_verge_html_set_text(documentOf(this), String(text));
  }
  get removed() {
    return op_verge_html_is_removed(documentOf(this));
  }
  before(content, options) {
    return insert(this, BEFORE, content, options);
  }
  after(content, options) {
    return insert(this, AFTER, content, options);
  }
  replace(content, options) {
    return insert(this, REPLACE, content, options);
  }
  remove() {
    return remove(this, false);
  }
}

class Doctype extends Token {
  get name() {
    return op_verge_html_name(documentOf(this));
  }
  get publicId() {
    return op_verge_html_identifiers(documentOf(this))[0];
  }
  get systemId() {
    return op_verge_html_identifiers(documentOf(this))[1];
  }
}

class EndTag extends Token {
  get name() {
    return op_verge_html_name(documentOf(this));
  }
  set name(name) {
    op_verge_html_set_name(documentOf(this), String(name));
  }
  before(content, options) {
    return insert(this, BEFORE, content, options);
  }
  after(content, options) {
    return insert(this, AFTER, content, options);
  }
  remove() {
    return remove(this, false);
  }
}

class DocumentEnd extends Token {
  append(content, options) {
    return insert(this, APPEND, content, options);
  }
}

const ELEMENT_HANDLERS = [["element", Element], ["comments", Comment], ["text", Text]];
const DOCUMENT_HANDLERS = [
  ["doctype", Doctype],
  ["comments", Comment],
  ["text", Text],
  ["end", DocumentEnd],
];

/** One document on its way through. */
class Rewriting {
  document;
  /** `{ of, call, kind }`, by number; end tags add theirs while it runs. */
  handlers;
  /** The one token that is valid at this moment. */
  token = null;

  constructor(rules, handlers, charset) {
    this.document = op_verge_html_new(rules, charset);
    this.handlers = ArrayPrototypeSlice(handlers);
  }

  /** Calls handlers, one after the other, until the parser wants something else. */
  async settle(step) {
    while (step >= CALL) {
      const { of, call, kind } = this.handlers[step - CALL];
      this.token = new kind(secret, this);
      try {
        const result = call.call(of, this.token);
        if (typeof result?.then === "function") await result;
      } finally {
        this.token = null;
      }
      step = op_verge_html_resume(this.document);
    }
  }

  write(chunk) {
    return this.settle(op_verge_html_write(this.document, chunk));
  }

  end() {
    return this.settle(op_verge_html_end(this.document));
  }

  output() {
    return op_verge_html_output(this.document);
  }
}

export class HTMLRewriter {
  #rules = [];
  #handlers = [];

  #add(selector, handlers, kinds) {
    if (typeof handlers !== "object" || handlers === null) {
      throw new TypeError("HTMLRewriter: the handlers must be an object with functions");
    }
    const rule = { selector };
    for (const { 0: name, 1: kind } of kinds) {
      const call = handlers[name];
      if (call === undefined || call === null) continue;
      if (typeof call !== "function") {
        throw new TypeError(`HTMLRewriter: the handler "${name}" must be a function`);
      }
      rule[name] = this.#handlers.length;
      ArrayPrototypePush(this.#handlers, { of: handlers, call, kind });
    }
    ArrayPrototypePush(this.#rules, rule);
    return this;
  }

  /** Has `handlers` called for what `selector` matches. */
  on(selector, handlers) {
    selector = String(selector);
    op_verge_html_check(selector);
    return this.#add(selector, handlers, ELEMENT_HANDLERS);
  }

  /** Has `handlers` called for the document as a whole. */
  onDocument(handlers) {
    return this.#add(null, handlers, DOCUMENT_HANDLERS);
  }

  /** A response whose body is that of `response`, rewritten as it is read. */
  transform(response) {
    if (!ObjectPrototypeIsPrototypeOf(Response.prototype, response)) {
      throw new TypeError("HTMLRewriter.transform() takes a Response");
    }
    if (response.body === null) return response;
    const charset = RegExpPrototypeExec(CHARSET, response.headers.get("content-type") ?? "")?.[1];
    const headers = new Headers(response.headers);
    // The length is another one.
    headers.delete("content-length");
    const { status, statusText } = response;
    const body = rewritten(response.body, this.#rules, this.#handlers, charset ?? "utf-8");
    return new Response(body, { status, statusText, headers });
  }
}

/** Reads from `body` only as much as it takes to give something to whoever reads here. */
function rewritten(body, rules, handlers, charset) {
  const reader = body.getReader();
  const rewriting = new Rewriting(rules, handlers, charset);
  return new ReadableStream({
    async pull(controller) {
      try {
        for (;;) {
          const { done, value } = await reader.read();
          await (done ? rewriting.end() : rewriting.write(value));
          const output = rewriting.output();
          if (output.byteLength > 0) controller.enqueue(output);
          if (done) return controller.close();
          if (output.byteLength > 0) return;
        }
      } catch (error) {
        // What remains is of no use; that it may fail to stop changes nothing.
        reader.cancel(error).catch(() => {});
        throw error;
      }
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}
