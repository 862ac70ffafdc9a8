// Events, abort signals, message channels, and what happens to errors nobody catches.
import { equal, ok, once, rejects, report, test, throws } from "./check.js";

test("an event goes through its listeners in order", () => {
  const target = new EventTarget();
  const seen = [];
  target.addEventListener("x", (event) => seen.push(["first", event.type, event.target === target]));
  target.addEventListener("x", { handleEvent(event) { seen.push(["object", event.eventPhase]); event.preventDefault(); } });
  target.addEventListener("x", () => seen.push("once"), { once: true });
  const gone = () => seen.push("gone");
  target.addEventListener("x", gone);
  target.removeEventListener("x", gone);
  const controller = new AbortController();
  target.addEventListener("x", () => seen.push("aborted"), { signal: controller.signal });
  controller.abort();
  equal(target.dispatchEvent(new Event("x", { cancelable: true })), false);
  equal(target.dispatchEvent(new Event("x")), true);
  equal(seen, [["first", "x", true], ["object", 2], "once", ["first", "x", true], ["object", 2]]);
});

test("stopImmediatePropagation, isTrusted, passive, detail", () => {
  const target = new EventTarget();
  let calls = 0;
  target.addEventListener("x", (event) => { calls++; event.stopImmediatePropagation(); });
  target.addEventListener("x", () => calls++);
  target.dispatchEvent(new CustomEvent("x", { detail: { a: 1 } }));
  equal(calls, 1);
  equal(new CustomEvent("x", { detail: 5 }).detail, 5);
  equal(new Event("x").isTrusted, false);
  const event = new Event("y", { cancelable: true });
  target.addEventListener("y", (e) => e.preventDefault(), { passive: true });
  target.dispatchEvent(event);
  equal(event.defaultPrevented, false);
  throws(() => target.dispatchEvent({}), TypeError);
});

test("event classes carry their data", () => {
  equal(new ErrorEvent("error", { message: "m", lineno: 3, error: 5 }).error, 5);
  equal(new MessageEvent("message", { data: [1], origin: "o" }).data, [1]);
  const promise = Promise.resolve();
  equal(new PromiseRejectionEvent("unhandledrejection", { promise, reason: 1 }).promise, promise);
  equal(new CloseEvent("close", { code: 1000, wasClean: true }).wasClean, true);
});

test("abort signals", async () => {
  const controller = new AbortController();
  let heard = 0;
  controller.signal.addEventListener("abort", () => heard++);
  controller.signal.onabort = () => heard++;
  controller.abort();
  controller.abort();
  equal([heard, controller.signal.aborted, controller.signal.reason.name], [2, true, "AbortError"]);
  throws(() => controller.signal.throwIfAborted(), "AbortError");
  equal(AbortSignal.abort("why").reason, "why");
  const first = new AbortController();
  const any = AbortSignal.any([first.signal, AbortSignal.timeout(60_000)]);
  first.abort("first");
  equal([any.aborted, any.reason], [true, "first"]);
  const timeout = AbortSignal.timeout(1);
  await once(timeout, "abort");
  equal(timeout.reason.name, "TimeoutError");
  ok(AbortSignal.any([AbortSignal.abort(7)]).reason === 7);
});

test("a message channel carries clones and ports", async () => {
  const { port1, port2 } = new MessageChannel();
  const heard = new Promise((resolve) => port2.onmessage = (event) => resolve(event.data));
  const buffer = new ArrayBuffer(4);
  port1.postMessage({ buffer, map: new Map([[1, 2]]) }, [buffer]);
  const data = await heard;
  equal([buffer.byteLength, data.buffer.byteLength, data.map.get(1)], [0, 4, 2]);
  throws(() => port1.postMessage(() => {}), "DataCloneError");
  port1.close();
});

test("a BroadcastChannel reaches the other ends of its name", async () => {
  const a = new BroadcastChannel("name"), b = new BroadcastChannel("name");
  const heard = once(b, "message");
  a.postMessage("hi");
  equal((await heard).data, "hi");
  a.close();
  b.close();
});

test("reportError and errors in listeners fire `error` on the global object", async () => {
  let heard = once(globalThis, "error");
  const stop = (event) => event.preventDefault();
  addEventListener("error", stop);
  const error = new RangeError("reported");
  reportError(error);
  equal((await heard).error, error);
  heard = once(globalThis, "error");
  const target = new EventTarget();
  target.addEventListener("x", () => { throw new TypeError("in a listener"); });
  equal(target.dispatchEvent(new Event("x")), true);
  const event = await heard;
  equal([event.error.message, event.message], ["in a listener", "Uncaught TypeError: in a listener"]);
  let assigned;
  globalThis.onerror = (...args) => { assigned = args; };
  reportError(new Error("to onerror"));
  globalThis.onerror = null;
  ok(assigned !== undefined, "globalThis.onerror was called");
  removeEventListener("error", stop);
});

test("an uncaught error in a timer fires `error`", async () => {
  const heard = once(globalThis, "error");
  const stop = (event) => event.preventDefault();
  addEventListener("error", stop);
  setTimeout(() => { throw new SyntaxError("in a timer"); }, 0);
  equal((await heard).error.name, "SyntaxError");
  queueMicrotask(() => { throw new EvalError("in a microtask"); });
  equal((await once(globalThis, "error")).error.name, "EvalError");
  removeEventListener("error", stop);
});

test("rejections nobody handles fire unhandledrejection, and rejectionhandled later", async () => {
  const heard = once(globalThis, "unhandledrejection");
  const reason = new Error("nobody");
  const promise = Promise.reject(reason);
  const event = await heard;
  ok(event instanceof PromiseRejectionEvent && event.cancelable);
  equal([event.reason, event.promise], [reason, promise]);
  const handled = once(globalThis, "rejectionhandled");
  promise.catch(() => {});
  equal((await handled).promise, promise);
  let assigned = null;
  globalThis.onunhandledrejection = (event) => { assigned = event.reason; event.preventDefault(); };
  Promise.reject("assigned");
  await new Promise((resolve) => setTimeout(resolve, 20));
  globalThis.onunhandledrejection = null;
  equal(assigned, "assigned");
});

test("DOMException", () => {
  const error = new DOMException("m", "DataCloneError");
  ok(error instanceof Error);
  equal([error.name, error.message, error.code, DOMException.DATA_CLONE_ERR], ["DataCloneError", "m", 25, 25]);
  ok(typeof error.stack === "string");
  ok(new QuotaExceededError("q") instanceof DOMException);
});

test("the global object is an event target and a worker's scope", async () => {
  ok(globalThis instanceof EventTarget && globalThis instanceof WorkerGlobalScope);
  const heard = once(globalThis, "custom");
  dispatchEvent(new Event("custom"));
  equal((await heard).type, "custom");
  throws(() => addEventListener("fetch", () => {}), /export default/);
});

export default report;
