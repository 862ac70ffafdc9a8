// Streams: default and byte streams, piping, back-pressure, errors.
import { all, equal, fromUtf8, ok, rejects, report, test, textOf, throws, utf8 } from "./check.js";

test("a stream is pulled only as far as its queue wants", async () => {
  let pulls = 0;
  const stream = new ReadableStream({ pull(c) { c.enqueue(pulls++); } }, new CountQueuingStrategy({ highWaterMark: 2 }));
  await scheduler.wait(1);
  equal(pulls, 2);
  const reader = stream.getReader();
  equal((await reader.read()).value, 0);
  await scheduler.wait(1);
  equal(pulls, 3);
  await reader.cancel();
  equal((await reader.read()).done, true);
});

test("ReadableStream.from, async iteration, and leaving a loop", async () => {
  async function* numbers() { yield 1; yield 2; yield 3; }
  equal(await all(ReadableStream.from(numbers())), [1, 2, 3]);
  equal(await all(ReadableStream.from(["a", Promise.resolve("b")])), ["a", "b"]);
  let cancelled;
  const stream = new ReadableStream({ pull(c) { c.enqueue(1); }, cancel() { cancelled = true; } });
  for await (const _ of stream) break;
  equal(cancelled, true);
  const kept = ReadableStream.from([1, 2]);
  for await (const _ of kept.values({ preventCancel: true })) break;
  equal((await kept.getReader().read()).value, 2);
});

test("byte streams read into the reader's own buffer", async () => {
  const stream = new ReadableStream({
    type: "bytes",
    autoAllocateChunkSize: 16,
    pull(controller) {
      const { view } = controller.byobRequest;
      view.set(utf8("hello").subarray(0, view.byteLength));
      controller.byobRequest.respond(Math.min(5, view.byteLength));
    },
  });
  const reader = stream.getReader({ mode: "byob" });
  const buffer = new ArrayBuffer(8);
  const { value, done } = await reader.read(new Uint8Array(buffer, 2, 4));
  equal([fromUtf8(value), done, buffer.byteLength, value.byteOffset], ["hell", false, 0, 2]);
  const more = await reader.read(new Uint8Array(12), { min: 10 });
  equal(more.value.byteLength, 10);
  reader.releaseLock();
  const usual = stream.getReader();
  equal(fromUtf8((await usual.read()).value), "hello");
  usual.cancel();
});

test("pipes: through, to, errors both ways, abort, prevent*", async () => {
  const upper = new TransformStream({ transform(text, c) { c.enqueue(text.toUpperCase()); }, flush(c) { c.enqueue("!"); } });
  equal((await all(ReadableStream.from(["a", "b"]).pipeThrough(upper))).join(""), "AB!");
  const written = [];
  let closed = 0;
  const sink = () => new WritableStream({ write(x) { written.push(x); }, close() { closed++; }, abort(r) { written.push(`aborted ${r}`); } });
  await ReadableStream.from([1, 2]).pipeTo(sink());
  equal([written, closed], [[1, 2], 1]);
  const broken = new ReadableStream({ start(c) { c.error("broken"); } });
  await rejects(broken.pipeTo(sink()).catch((e) => { throw new Error(e); }), /broken/);
  equal(written.at(-1), "aborted broken");
  const controller = new AbortController();
  const endless = new ReadableStream({ async pull(c) { await scheduler.wait(1); c.enqueue(0); } });
  const piping = endless.pipeTo(new WritableStream(), { signal: controller.signal });
  controller.abort(new Error("stop"));
  await rejects(piping, /stop/);
  const kept = sink();
  await ReadableStream.from([3]).pipeTo(kept, { preventClose: true });
  const writer = kept.getWriter();
  await writer.write(4);
  equal(written.slice(-2), [3, 4]);
});

test("tee gives both the whole, and the slower one holds the data", async () => {
  const [a, b] = ReadableStream.from(["x", "y"]).tee();
  equal([(await all(a)).join(""), (await all(b)).join("")], ["xy", "xy"]);
  const [c, d] = new Blob(["bytes"]).stream().tee();
  equal([await textOf(c), await textOf(d)], ["bytes", "bytes"]);
});

test("writers wait while the sink is slow", async () => {
  let release;
  const stream = new WritableStream({ write: () => new Promise((resolve) => release = resolve) }, { highWaterMark: 1 });
  const writer = stream.getWriter();
  equal(writer.desiredSize, 1);
  const first = writer.write("a");
  equal(writer.desiredSize, 0);
  let ready = false;
  writer.ready.then(() => ready = true);
  await scheduler.wait(1);
  equal(ready, false);
  release();
  await first;
  await scheduler.wait(0);
  equal(ready, true);
  await writer.abort(new Error("enough"));
  await rejects(writer.write("b"), /enough/);
});

test("terminate and error of a transform reach both sides", async () => {
  const two = new TransformStream({ transform(x, c) { c.enqueue(x); if (x === 2) c.terminate(); } });
  equal(await all(ReadableStream.from([1, 2, 3]).pipeThrough(two)), [1, 2]);
  const bad = new TransformStream({ transform() { throw new RangeError("bad"); } });
  await rejects(all(ReadableStream.from([1]).pipeThrough(bad)), RangeError);
});

test("locks", async () => {
  const stream = new ReadableStream();
  const reader = stream.getReader();
  throws(() => stream.getReader(), TypeError);
  await rejects(stream.cancel(), TypeError);
  reader.releaseLock();
  ok(!stream.locked);
  throws(() => new ReadableStream({ type: "odd" }), TypeError);
  throws(() => new CountQueuingStrategy(), TypeError);
  equal(new ByteLengthQueuingStrategy({ highWaterMark: 5 }).size(new Uint8Array(3)), 3);
});

export default report;
