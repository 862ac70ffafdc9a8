// `ctx`: what a handler may say to the platform about its own request.

import { core, primordials } from "ext:core/mod.js";
import { log } from "ext:verge_engine/console.js";

const { op_verge_hold, op_verge_pass_through, op_verge_release } = core.ops;
const { ObjectSetPrototypeOf, PromisePrototypeThen, PromiseResolve, TypeError } = primordials;

/**
 * What travels across awaits. Its prototype inherits nothing; a literal with `__proto__: null`
 * would be a hash table to V8, made anew for each request.
 */
class Frame {
  constructor(request) {
    this.verge = request;
  }
}
delete Frame.prototype.constructor;
ObjectSetPrototypeOf(Frame.prototype, null);

/** What the platform knows of a request in JS. */
export class RequestState {
  constructor(id) {
    this.id = id;
    this.pending = 0;
    this.frame = new Frame(this);
  }

  /** Keeps the request's exchange alive until `promise` settles. */
  hold(promise) {
    if (this.pending++ === 0) op_verge_hold(this.id);
    const release = () => {
      if (--this.pending === 0) op_verge_release(this.id);
    };
    PromisePrototypeThen(PromiseResolve(promise), release, (error) => {
      log(3, "Uncaught (in waitUntil)", error);
      release();
    });
  }
}

export class ExecutionContext {
  #state;
  #props;
  constructor(state, props) {
    this.#state = state;
    this.#props = props;
  }

  get props() {
    return this.#props;
  }

  waitUntil(promise) {
    if (arguments.length < 1) throw new TypeError("waitUntil() takes a promise");
    this.#state.hold(promise);
  }

  passThroughOnException() {
    op_verge_pass_through(this.#state.id);
  }

  abort(reason) {
    throw reason ?? new Error("ctx.abort() was called");
  }
}
