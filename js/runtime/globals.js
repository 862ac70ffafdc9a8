// The global scope of an app: what WinterTC's minimum common API and Workers promise.
//
// What a request nearly always touches (streams, headers, Request, Response, URL) is
// evaluated into the snapshot; the rest is loaded on first use, so that an idle app stays
// small. Nothing here reads the clock, the environment or the file system.

import { core } from "ext:core/mod.js";

const load = (specifier) => core.loadExtScript(specifier);
/** A loader that evaluates `specifier` once, at its first use. */
const lazily = (specifier) => {
  let exports;
  return () => exports ??= load(specifier);
};

const webidl = load("ext:deno_webidl/00_webidl.js");
const event = load("ext:deno_web/02_event.js");
const timers = load("ext:deno_web/02_timers.js");
const abort = load("ext:deno_web/03_abort_signal.js");
const { DOMException, QuotaExceededError } = load("ext:deno_web/01_dom_exception.js");
const url = load("ext:deno_web/00_url.js");
const streams = load("ext:deno_web/06_streams.js");
const encoding = load("ext:deno_web/08_text_encoding.js");
const base64 = load("ext:deno_web/05_base64.js");
const file = load("ext:deno_web/09_file.js");
const headers = load("ext:deno_fetch/20_headers.js");
const formData = load("ext:deno_fetch/21_formdata.js");
const performance = load("ext:deno_web/15_performance.js");
const messagePort = load("ext:deno_web/13_message_port.js");
// Brands CryptoKeys for node:crypto, if it is there; must run before the crypto script.
if (core.ops.TCPWrap !== undefined) load("ext:deno_node/internal/crypto/constants.ts");
const crypto = load("ext:deno_crypto/00_crypto.js");

const urlPattern = lazily("ext:deno_web/01_urlpattern.js");
const compression = lazily("ext:deno_web/14_compression.js");
const fileReader = lazily("ext:deno_web/10_filereader.js");
const broadcast = lazily("ext:deno_web/01_broadcast_channel.js");
const eventSource = lazily("ext:deno_fetch/27_eventsource.js");

const hidden = core.propNonEnumerable;
const writable = core.propWritable;
const lazy = (name, loader) => core.propNonEnumerableLazyLoaded((m) => m[name], loader);

// Whatever does not depend on the app. The descriptors are of no use afterwards, and nothing
// keeps them.
core.defineGlobalProperties(globalThis, {
  AbortController: hidden(abort.AbortController),
  AbortSignal: hidden(abort.AbortSignal),
  Blob: hidden(file.Blob),
  BroadcastChannel: lazy("BroadcastChannel", broadcast),
  ByteLengthQueuingStrategy: hidden(streams.ByteLengthQueuingStrategy),
  CloseEvent: hidden(event.CloseEvent),
  CompressionStream: lazy("CompressionStream", compression),
  CountQueuingStrategy: hidden(streams.CountQueuingStrategy),
  Crypto: hidden(crypto.Crypto),
  CryptoKey: hidden(crypto.CryptoKey),
  CustomEvent: hidden(event.CustomEvent),
  DecompressionStream: lazy("DecompressionStream", compression),
  DOMException: hidden(DOMException),
  ErrorEvent: hidden(event.ErrorEvent),
  Event: hidden(event.Event),
  EventSource: lazy("EventSource", eventSource),
  EventTarget: hidden(event.EventTarget),
  File: hidden(file.File),
  FileReader: lazy("FileReader", fileReader),
  FormData: hidden(formData.FormData),
  Headers: hidden(headers.Headers),
  MessageChannel: hidden(messagePort.MessageChannel),
  MessageEvent: hidden(event.MessageEvent),
  MessagePort: hidden(messagePort.MessagePort),
  Performance: hidden(performance.Performance),
  PerformanceEntry: hidden(performance.PerformanceEntry),
  PerformanceMark: hidden(performance.PerformanceMark),
  PerformanceMeasure: hidden(performance.PerformanceMeasure),
  ProgressEvent: hidden(event.ProgressEvent),
  PromiseRejectionEvent: hidden(event.PromiseRejectionEvent),
  QuotaExceededError: hidden(QuotaExceededError),
  ReadableByteStreamController: hidden(streams.ReadableByteStreamController),
  ReadableStream: hidden(streams.ReadableStream),
  ReadableStreamBYOBReader: hidden(streams.ReadableStreamBYOBReader),
  ReadableStreamBYOBRequest: hidden(streams.ReadableStreamBYOBRequest),
  ReadableStreamDefaultController: hidden(streams.ReadableStreamDefaultController),
  ReadableStreamDefaultReader: hidden(streams.ReadableStreamDefaultReader),
  SubtleCrypto: hidden(crypto.SubtleCrypto),
  TextDecoder: hidden(encoding.TextDecoder),
  TextDecoderStream: hidden(encoding.TextDecoderStream),
  TextEncoder: hidden(encoding.TextEncoder),
  TextEncoderStream: hidden(encoding.TextEncoderStream),
  TransformStream: hidden(streams.TransformStream),
  TransformStreamDefaultController: hidden(streams.TransformStreamDefaultController),
  URL: hidden(url.URL),
  URLPattern: lazy("URLPattern", urlPattern),
  URLSearchParams: hidden(url.URLSearchParams),
  WritableStream: hidden(streams.WritableStream),
  WritableStreamDefaultController: hidden(streams.WritableStreamDefaultController),
  WritableStreamDefaultWriter: hidden(streams.WritableStreamDefaultWriter),
  atob: writable(base64.atob),
  btoa: writable(base64.btoa),
  clearInterval: writable(timers.clearInterval),
  clearTimeout: writable(timers.clearTimeout),
  crypto: core.propGetterOnly(() => crypto.crypto),
  performance: writable(performance.performance),
  reportError: writable(event.reportError),
  setInterval: writable(timers.setInterval),
  setTimeout: writable(timers.setTimeout),
  structuredClone: writable(messagePort.structuredClone),
  [webidl.brand]: hidden(webidl.brand),
});

const { setTimeOrigin } = performance;
const { Crypto, SubtleCrypto } = crypto;
export { Crypto, DOMException, event, QuotaExceededError, setTimeOrigin, SubtleCrypto };
