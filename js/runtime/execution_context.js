// `ctx`: what a handler may say to the platform about its own request.

import { core, primordials } from "ext:core/mod.js";
import { log } from "ext:verge_engine/console.js";

const { op_verge_hold, op_verge_pass_through, op_verge_release } = core.ops;
const { PromisePrototypeThen, PromiseResolve, TypeError } = primordials;

/** What the platform knows of a request in JS; `frame` travels across awaits. */
export class RequestState {
  pending = 0;
  constructor(id) {
    this.id = id;
    this.frame = { __proto__: null, verge: this };
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
