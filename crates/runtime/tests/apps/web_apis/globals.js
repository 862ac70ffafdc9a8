// WinterTC's minimum common web API (Ecma-429): everything the standard lists is there, has
// the members its own standard gives it, and does what it is for.
import { all, bytes, equal, fromUtf8, hex, ok, once, rejects, report, test, textOf, throws, utf8 } from "./check.js";

const MEMBERS = {
  AbortController: ["signal", "abort"],
  AbortSignal: ["static abort", "static any", "static timeout", "aborted", "reason", "throwIfAborted", "onabort"],
  Blob: ["size", "type", "slice", "stream", "text", "arrayBuffer", "bytes"],
  ByteLengthQueuingStrategy: ["highWaterMark", "size"],
  CompressionStream: ["readable", "writable"],
  CountQueuingStrategy: ["highWaterMark", "size"],
  Crypto: ["subtle", "getRandomValues", "randomUUID"],
  CryptoKey: ["type", "extractable", "algorithm", "usages"],
  CustomEvent: ["detail"],
  DecompressionStream: ["readable", "writable"],
  DOMException: ["name", "message", "code"],
  ErrorEvent: ["message", "filename", "lineno", "colno", "error"],
  Event: [
    "type", "target", "currentTarget", "composedPath", "eventPhase", "stopPropagation", "stopImmediatePropagation",
    "bubbles", "cancelable", "preventDefault", "defaultPrevented", "composed", "isTrusted", "timeStamp",
    "NONE", "CAPTURING_PHASE", "AT_TARGET", "BUBBLING_PHASE",
  ],
  EventTarget: ["addEventListener", "removeEventListener", "dispatchEvent"],
  File: ["name", "lastModified"],
  FormData: ["append", "delete", "get", "getAll", "has", "set", "entries", "keys", "values", "forEach"],
  Headers: ["append", "delete", "get", "getSetCookie", "has", "set", "entries", "keys", "values", "forEach"],
  MessageChannel: ["port1", "port2"],
  MessageEvent: ["origin", "lastEventId", "source", "ports"],
  MessagePort: ["postMessage", "start", "close", "onmessage", "onmessageerror"],
  Performance: ["now", "timeOrigin", "toJSON"],
  PromiseRejectionEvent: ["promise", "reason"],
  ReadableByteStreamController: ["byobRequest", "desiredSize", "close", "enqueue", "error"],
  ReadableStream: ["static from", "locked", "cancel", "getReader", "pipeThrough", "pipeTo", "tee", "values"],
  ReadableStreamBYOBReader: ["closed", "cancel", "read", "releaseLock"],
  ReadableStreamBYOBRequest: ["view", "respond", "respondWithNewView"],
  ReadableStreamDefaultController: ["desiredSize", "close", "enqueue", "error"],
  ReadableStreamDefaultReader: ["closed", "cancel", "read", "releaseLock"],
  Request: [
    "method", "url", "headers", "destination", "referrer", "referrerPolicy", "mode", "credentials", "cache",
    "redirect", "integrity", "keepalive", "isHistoryNavigation", "isReloadNavigation", "signal", "duplex", "clone",
    "body", "bodyUsed", "arrayBuffer", "blob", "bytes", "formData", "json", "text",
  ],
  Response: [
    "static error", "static redirect", "static json", "type", "url", "redirected", "status", "ok", "statusText",
    "headers", "clone", "body", "bodyUsed", "arrayBuffer", "blob", "bytes", "formData", "json", "text",
  ],
  SubtleCrypto: [
    "encrypt", "decrypt", "sign", "verify", "digest", "generateKey", "deriveKey", "deriveBits", "importKey",
    "exportKey", "wrapKey", "unwrapKey",
  ],
  TextDecoder: ["decode", "encoding", "fatal", "ignoreBOM"],
  TextDecoderStream: ["readable", "writable", "encoding", "fatal", "ignoreBOM"],
  TextEncoder: ["encode", "encodeInto", "encoding"],
  TextEncoderStream: ["readable", "writable", "encoding"],
  TransformStream: ["readable", "writable"],
  TransformStreamDefaultController: ["desiredSize", "enqueue", "error", "terminate"],
  URL: [
    "static canParse", "static parse", "href", "origin", "protocol", "username", "password", "host", "hostname",
    "port", "pathname", "search", "searchParams", "hash", "toJSON",
  ],
  URLPattern: [
    "test", "exec", "protocol", "username", "password", "hostname", "port", "pathname", "search", "hash",
    "hasRegExpGroups",
  ],
  URLSearchParams: ["size", "append", "delete", "get", "getAll", "has", "set", "sort", "entries", "keys", "values"],
  WritableStream: ["locked", "abort", "close", "getWriter"],
  WritableStreamDefaultController: ["signal", "error"],
  WritableStreamDefaultWriter: ["closed", "desiredSize", "ready", "abort", "close", "releaseLock", "write"],
};
// Whether a service's request was a navigation is a browser's notion; no server runtime has it.
const NOT_SERVER = new Set(["Request.isHistoryNavigation", "Request.isReloadNavigation"]);
// On instances rather than prototypes.
const INSTANCE_ONLY = new Set(["Event.isTrusted", "MessageEvent.origin", "MessageEvent.lastEventId", "MessageEvent.ports"]);

for (const [name, members] of Object.entries(MEMBERS)) {
  test(`${name} is there with all its members`, () => {
    const cls = globalThis[name];
    equal(typeof cls, "function", name);
    equal(cls.name, name);
    const { enumerable } = Object.getOwnPropertyDescriptor(globalThis, name);
    equal(enumerable, false, "enumerable");
    for (const member of members) {
      if (NOT_SERVER.has(`${name}.${member}`) || INSTANCE_ONLY.has(`${name}.${member}`)) continue;
      const fixed = member.startsWith("static ");
      const at = fixed ? cls : cls.prototype;
      ok((fixed ? member.slice(7) : member) in at, `${name}.${member}`);
    }
  });
}

const wasm = {
  Global: () => equal(new WebAssembly.Global({ value: "i64", mutable: true }, 5n).value, 5n),
  Memory: () => equal(new WebAssembly.Memory({ initial: 1 }).grow(1), 1),
  Table: () => equal(new WebAssembly.Table({ element: "externref", initial: 2 }).length, 2),
  Module: () => equal(WebAssembly.Module.exports(new WebAssembly.Module(adder))[0].name, "add"),
  Instance: () => equal(new WebAssembly.Instance(new WebAssembly.Module(adder)).exports.add(1, 2), 3),
  Tag: () => ok(new WebAssembly.Tag({ parameters: ["i32"] }) instanceof WebAssembly.Tag),
  Exception: () => {
    const tag = new WebAssembly.Tag({ parameters: ["i32"] });
    equal(new WebAssembly.Exception(tag, [7]).getArg(tag, 0), 7);
  },
  JSTag: () => ok(WebAssembly.JSTag instanceof WebAssembly.Tag),
  CompileError: () => throws(() => new WebAssembly.Module(new Uint8Array([1])), WebAssembly.CompileError),
  LinkError: () => throws(() => new WebAssembly.Instance(new WebAssembly.Module(importer), { m: { f: 1 } }), WebAssembly.LinkError),
  RuntimeError: () => throws(() => new WebAssembly.Instance(new WebAssembly.Module(trapper)).exports.f(), WebAssembly.RuntimeError),
};
const adder = bytes("0061736d0100000001070160027f7f017f03020100070701036164640000" + "0a09010700200020016a0b");
const importer = bytes("0061736d010000000104016000000207010" + "16d01660000");
const trapper = bytes("0061736d01000000010401600000030201000705010166000" + "00a05010300000b");
for (const [name, run] of Object.entries(wasm)) test(`WebAssembly.${name} works`, run);

test("WebAssembly compiles from bytes and from responses", async () => {
  const wasmResponse = () => new Response(adder, { headers: { "content-type": "application/wasm" } });
  ok(WebAssembly.validate(adder));
  ok(!WebAssembly.validate(new Uint8Array(4)));
  ok(await WebAssembly.compile(adder) instanceof WebAssembly.Module);
  equal((await WebAssembly.instantiate(adder)).instance.exports.add(2, 3), 5);
  ok(await WebAssembly.compileStreaming(wasmResponse()) instanceof WebAssembly.Module);
  equal((await WebAssembly.instantiateStreaming(Promise.resolve(wasmResponse()))).instance.exports.add(20, 3), 23);
  await rejects(WebAssembly.compileStreaming(new Response(adder)), TypeError);
});

test("WebAssembly has no shared memory", () => {
  equal(typeof SharedArrayBuffer, "undefined");
  throws(() => new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }), /shared/);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
  ok(memory instanceof WebAssembly.Memory);
  ok(memory.buffer instanceof ArrayBuffer);
  equal(Object.prototype.toString.call(memory), "[object WebAssembly.Memory]");
  equal(memory.constructor, WebAssembly.Memory);
  class Mine extends WebAssembly.Memory {}
  ok(new Mine({ initial: 0 }) instanceof Mine);
  throws(() => new memory.constructor({ initial: 1, maximum: 1, shared: true }), /shared/);
  // The engine reads the descriptor once, so it cannot say one thing and then another.
  let asked = 0;
  const liar = { initial: 1, maximum: 1, get shared() { return asked++ > 0; } };
  try {
    ok(new WebAssembly.Memory(liar).buffer instanceof ArrayBuffer);
  } catch (error) {
    ok(/shared/.test(error.message), error.message);
  }
});

test("a MessageEvent says where it comes from", () => {
  const event = new MessageEvent("message", { data: 1, origin: "https://a.example", lastEventId: "7" });
  equal([event.data, event.origin, event.lastEventId, event.ports.length], [1, "https://a.example", "7", 0]);
});

test("the global functions do their work", async () => {
  equal(globalThis, self);
  equal(atob("aGk="), "hi");
  equal(btoa("hi"), "aGk=");
  throws(() => atob("*"), "InvalidCharacterError");
  const order = [];
  await new Promise((resolve) => {
    setTimeout(() => (order.push("timeout"), resolve()), 0);
    queueMicrotask(() => order.push("microtask"));
  });
  equal(order, ["microtask", "timeout"]);
  clearTimeout(setTimeout(() => order.push("cleared"), 0));
  let ticks = 0;
  await new Promise((resolve) => {
    const interval = setInterval(() => ++ticks === 3 && (clearInterval(interval), resolve()), 1);
  });
  equal(ticks, 3);
  equal(await new Promise((resolve) => setTimeout((a, b) => resolve(a + b), 0, 1, 2)), 3);
  equal(order.length, 2);
  equal(typeof navigator.userAgent, "string");
  ok(/^[\w-]+$/.test(navigator.userAgent), "navigator.userAgent is one product token");
  ok(navigator instanceof Navigator);
});

test("fetch reads data: URLs, and says what it cannot", async () => {
  const response = await fetch("data:text/plain;charset=utf-8,hi%20there");
  equal([response.status, response.headers.get("content-type"), await response.text()], [200, "text/plain;charset=utf-8", "hi there"]);
  await rejects(fetch("nonsense"), TypeError);
  await rejects(fetch("file:///etc/passwd"), TypeError);
  const controller = new AbortController();
  controller.abort(new RangeError("mine"));
  await rejects(fetch("http://example.com", { signal: controller.signal }), RangeError);
  const url = URL.createObjectURL(new Blob(["in memory"], { type: "text/x" }));
  const blob = await fetch(url);
  equal([await blob.text(), blob.headers.get("content-type")], ["in memory", "text/x"]);
  URL.revokeObjectURL(url);
  await rejects(fetch(url), TypeError);
});

test("console has its methods and takes anything", () => {
  for (const name of [
    "assert", "clear", "debug", "error", "info", "log", "table", "trace", "warn", "dir", "dirxml", "count",
    "countReset", "group", "groupCollapsed", "groupEnd", "time", "timeLog", "timeEnd",
  ]) {
    equal(typeof console[name], "function", `console.${name}`);
  }
  console.log("%s is %d", "one", 1, { deep: { deeper: {} } }, new Map([[1, 2]]), Symbol("s"), 1n, () => {});
  console.table([{ a: 1 }]);
  console.group("group");
  console.count();
  console.groupEnd();
  console.time("t");
  console.timeEnd("t");
  console.assert(false, "asserted");
  equal(Object.prototype.toString.call(console), "[object console]");
});

test("performance counts", async () => {
  const start = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 5));
  ok(performance.now() > start, "time passes over an await");
  ok(performance.timeOrigin > 1_600_000_000_000 || performance.timeOrigin === 0, "timeOrigin");
  equal(typeof performance.toJSON().timeOrigin, "number");
  performance.mark("a", { detail: 1 });
  performance.mark("b");
  const measure = performance.measure("a-b", "a", "b");
  ok(measure.duration >= 0);
  equal(performance.getEntriesByName("a")[0].detail, 1);
  equal(performance.getEntriesByType("measure").length, 1);
  performance.clearMarks();
  performance.clearMeasures();
  equal(performance.getEntries().length, 0);
});

test("structuredClone clones and transfers", () => {
  const cyclic = { date: new Date(5), map: new Map([[1, new Set([2])]]), re: /x/g, big: 5n, error: new RangeError("r") };
  cyclic.self = cyclic;
  const clone = structuredClone(cyclic);
  ok(clone.self === clone && clone !== cyclic);
  equal([clone.date.getTime(), clone.map.get(1).has(2), clone.re.flags, clone.big], [5, true, "g", 5n]);
  ok(clone.error instanceof RangeError);
  const buffer = new ArrayBuffer(8);
  const moved = structuredClone({ buffer }, { transfer: [buffer] });
  equal([buffer.byteLength, moved.buffer.byteLength, buffer.detached], [0, 8, true]);
  throws(() => structuredClone(() => {}), "DataCloneError");
  throws(() => structuredClone(Symbol("s")), "DataCloneError");
  const shared = new Uint8Array([1, 2, 3]).subarray(1);
  equal(structuredClone(shared), new Uint8Array([2, 3]));
});

test("structuredClone clones the platform's own objects", async () => {
  const blob = structuredClone(new Blob(["ab"], { type: "t/x" }));
  ok(blob instanceof Blob);
  equal([await blob.text(), blob.type], ["ab", "t/x"]);
  const file = structuredClone(new File(["ab"], "n.txt"));
  equal([file.name, await file.text()], ["n.txt", "ab"]);
  const error = structuredClone(new DOMException("m", "DataError"));
  ok(error instanceof DOMException);
  equal([error.name, error.message], ["DataError", "m"]);
  const { port1, port2 } = new MessageChannel();
  const moved = structuredClone(port1, { transfer: [port1] });
  const heard = once(port2, "message");
  port2.start();
  moved.postMessage("over");
  equal((await heard).data, "over");
  moved.close();
});

test("structuredClone transfers streams", async () => {
  const stream = new Blob(["streamed"]).stream();
  const moved = structuredClone(stream, { transfer: [stream] });
  ok(moved instanceof ReadableStream && stream.locked);
  equal(await textOf(moved), "streamed");
});

test("scheduler.wait waits, and stops at a signal", async () => {
  await scheduler.wait(1);
  const controller = new AbortController();
  const waiting = scheduler.wait(60_000, { signal: controller.signal });
  controller.abort();
  await rejects(waiting, "AbortError");
  await rejects(scheduler.wait(1, { signal: AbortSignal.abort(new TypeError("early")) }), TypeError);
});

test("encoding", async () => {
  equal(hex(new TextEncoder().encode("\u00e9\ud83d\ude00")), "c3a9f09f9880");
  const into = new Uint8Array(3);
  equal(new TextEncoder().encodeInto("a\u20acb", into), { read: 1, written: 1 });
  equal(new TextDecoder("utf-16le").decode(bytes("68006900")), "hi");
  equal(new TextDecoder("windows-1252").decode(bytes("80")), "\u20ac");
  equal(new TextDecoder("shift_jis").decode(bytes("82a0")), "\u3042");
  throws(() => new TextDecoder("utf-8", { fatal: true }).decode(bytes("ff")), TypeError);
  throws(() => new TextDecoder("klingon"), RangeError);
  const decoder = new TextDecoder();
  equal(decoder.decode(bytes("f09f"), { stream: true }) + decoder.decode(bytes("9880")), "\ud83d\ude00");
  const pieces = ReadableStream.from([bytes("c3"), bytes("a9")]).pipeThrough(new TextDecoderStream());
  equal((await all(pieces)).join(""), "\u00e9");
  const encoded = ReadableStream.from(["\ud83d", "\ude00"]).pipeThrough(new TextEncoderStream());
  equal(hex(await new Response(encoded).arrayBuffer()), "f09f9880");
});

test("URL, URLSearchParams and URLPattern", () => {
  const url = new URL("../b?x=1&x=2#f", "https://user:pw@ex\u00e4mple.com:8443/a/c/d");
  equal(url.href, "https://user:pw@xn--exmple-cua.com:8443/a/b?x=1&x=2#f");
  equal(url.searchParams.getAll("x"), ["1", "2"]);
  url.searchParams.append("y", "a b&");
  equal(url.search, "?x=1&x=2&y=a+b%26");
  ok(URL.canParse("a:b") && !URL.canParse("nope"));
  equal(URL.parse("nope"), null);
  throws(() => new URL("nope"), TypeError);
  const params = new URLSearchParams([["b", "2"], ["a", "1"]]);
  params.sort();
  equal([`${params}`, params.size, params.has("a", "2")], ["a=1&b=2", 2, false]);
  const pattern = new URLPattern({ pathname: "/users/:id(\\d+)/:rest*" });
  equal(pattern.exec("https://x.y/users/42/a/b").pathname.groups, { id: "42", rest: "a/b" });
  equal([pattern.test("https://x.y/users/me/a"), pattern.hasRegExpGroups, pattern.pathname], [false, true, "/users/:id(\\d+)/:rest*"]);
});

test("compression goes there and back", async () => {
  const text = "abcabcabc".repeat(1000);
  for (const format of ["gzip", "deflate", "deflate-raw", "brotli"]) {
    const small = new Blob([text]).stream().pipeThrough(new CompressionStream(format));
    const packed = new Uint8Array(await new Response(small).arrayBuffer());
    ok(packed.length < 200, `${format}: ${packed.length} bytes`);
    equal(await textOf(new Blob([packed]).stream().pipeThrough(new DecompressionStream(format))), text, format);
  }
  const known = bytes("1f8b0800000000000003cb48cdc9c907008" + "6a6103605000000");
  equal(await textOf(new Blob([known]).stream().pipeThrough(new DecompressionStream("gzip"))), "hello");
  await rejects(textOf(new Blob(["not gzip"]).stream().pipeThrough(new DecompressionStream("gzip"))), TypeError);
  await rejects(textOf(new Blob([known.slice(0, 12)]).stream().pipeThrough(new DecompressionStream("gzip"))), TypeError);
  throws(() => new CompressionStream("zip"), TypeError);
});

test("what is no web standard of a server is not there", () => {
  for (const name of ["window", "document", "XMLHttpRequest", "localStorage", "Worker", "alert", "location", "Temporal", "SharedArrayBuffer"]) {
    equal(typeof globalThis[name], "undefined", name);
  }
});

export default report;
