// Headers, Request, Response, FormData, Blob, File.
import { all, bytes, equal, fromUtf8, hex, ok, rejects, report, test, textOf, throws, utf8 } from "./check.js";

test("headers are sorted, combined, validated", () => {
  const headers = new Headers([["B", "2"], ["a", "1"], ["b", "3"], ["Set-Cookie", "x=1"], ["set-cookie", "y=2"]]);
  equal([...headers], [["a", "1"], ["b", "2, 3"], ["set-cookie", "x=1"], ["set-cookie", "y=2"]]);
  equal([headers.get("SET-COOKIE"), headers.getSetCookie()], ["x=1, y=2", ["x=1", "y=2"]]);
  headers.delete("B");
  equal([headers.has("b"), headers.get("nope")], [false, null]);
  throws(() => headers.set("bad name", "x"), TypeError);
  throws(() => headers.set("x", "a\nb"), TypeError);
  equal(new Headers({ x: " padded " }).get("x"), "padded");
});

test("requests", async () => {
  const request = new Request("http://x.y/p", { method: "post", body: JSON.stringify({ a: 1 }), headers: { "x-h": "1" } });
  equal([request.method, request.url, request.headers.get("content-type"), request.bodyUsed], ["POST", "http://x.y/p", "text/plain;charset=UTF-8", false]);
  const clone = request.clone();
  equal([await request.json(), await clone.text(), request.bodyUsed], [{ a: 1 }, '{"a":1}', true]);
  await rejects(request.text(), TypeError);
  throws(() => new Request("http://x.y", { method: "GET", body: "x" }), TypeError);
  throws(() => new Request("http://x.y", { method: "TRACE" }), TypeError);
  throws(() => new Request("/relative"), TypeError);
  const copy = new Request(new Request("http://x.y/", { method: "PUT", body: "b" }), { headers: { a: "b" } });
  equal([copy.method, copy.headers.get("a"), await copy.text()], ["PUT", "b", "b"]);
  const streamed = new Request("http://x.y/", { method: "POST", body: new Blob(["s"]).stream(), duplex: "half" });
  equal(await streamed.text(), "s");
});

test("the incoming request is a Request that can be copied and changed", async ({ request }) => {
  ok(request instanceof Request);
  const copy = new Request("http://other.example/p", request);
  equal([copy.method, copy.url, copy.headers.get("x-sent")], [request.method, "http://other.example/p", "yes"]);
  copy.headers.set("x-sent", "changed");
  throws(() => request.headers.set("a", "b"), TypeError);
  equal([...request.headers.keys()].includes("x-sent"), true);
  equal(request.cf.country, "DE");
  equal(typeof request.cf.httpProtocol, "string");
  equal(await copy.text(), "the body of the request");
  ok(!request.signal.aborted);
});

test("responses", async () => {
  const response = new Response("body", { status: 201, statusText: "Made", headers: { a: "b" } });
  equal([response.status, response.ok, response.statusText, response.headers.get("content-type"), response.type], [201, true, "Made", "text/plain;charset=UTF-8", "default"]);
  equal(await response.clone().text(), "body");
  equal([fromUtf8(await response.bytes()), response.bodyUsed], ["body", true]);
  const json = Response.json({ a: [1] }, { status: 418 });
  equal([json.status, json.headers.get("content-type"), await json.json()], [418, "application/json", { a: [1] }]);
  const redirect = Response.redirect("http://x.y/z", 303);
  equal([redirect.status, redirect.headers.get("location")], [303, "http://x.y/z"]);
  equal([Response.error().type, Response.error().status], ["error", 0]);
  throws(() => new Response("x", { status: 99 }), RangeError);
  throws(() => new Response("x", { status: 204 }), TypeError);
  throws(() => Response.redirect("http://x.y", 200), RangeError);
  equal(new Response().body, null);
  equal(await new Response(new URLSearchParams("a=b c")).text(), "a=b+c");
  equal(hex(await new Response(new Uint16Array([1, 2]).subarray(1)).arrayBuffer()), "0200");
  await rejects(new Response("{").json(), SyntaxError);
  const stream = new Response(ReadableStream.from([utf8("a"), utf8("b")]));
  equal([await stream.text(), stream.headers.get("content-type")], ["ab", null]);
  await rejects(new Response(ReadableStream.from([5])).text(), TypeError);
});

test("forms are written and read as multipart and as urlencoded", async () => {
  const form = new FormData();
  form.append("field", "va\"lue\r\n");
  form.append("file", new File([new Uint8Array([0, 255])], "name.bin", { type: "application/x-b" }));
  form.append("blob", new Blob(["b"]));
  const response = new Response(form);
  ok(/^multipart\/form-data; ?boundary=/.test(response.headers.get("content-type")), response.headers.get("content-type"));
  const back = await response.formData();
  equal([...back.keys()], ["field", "file", "blob"]);
  equal(back.get("field"), "va\"lue\r\n");
  const file = back.get("file");
  ok(file instanceof File);
  equal([file.name, file.type, hex(await file.arrayBuffer())], ["name.bin", "application/x-b", "00ff"]);
  equal(back.get("blob").name, "blob");
  const text = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\ncontent\r\n--B--\r\n";
  const parsed = await new Response(text, { headers: { "content-type": "multipart/form-data; boundary=B" } }).formData();
  equal([parsed.get("a"), await parsed.get("f").text(), parsed.get("f").name], ["1", "content", "x.txt"]);
  const coded = await new Response("a=1&b=%20+", { headers: { "content-type": "application/x-www-form-urlencoded" } }).formData();
  equal([coded.get("a"), coded.get("b")], ["1", "  "]);
  await rejects(new Response("x", { headers: { "content-type": "multipart/form-data; boundary=B" } }).formData(), TypeError);
  await rejects(new Response("x").formData(), TypeError);
  form.set("field", "new");
  form.delete("blob");
  equal([form.has("blob"), form.getAll("field"), [...form].length], [false, ["new"], 2]);
});

test("blobs and files", async () => {
  const blob = new Blob(["ab", new Uint8Array([99]), new Blob(["d"])], { type: "Text/Plain" });
  equal([blob.size, blob.type, await blob.text()], [4, "text/plain", "abcd"]);
  equal(await blob.slice(1, -1, "x/y").text(), "bc");
  equal(hex(await blob.bytes()), "61626364");
  equal(await textOf(blob.stream()), "abcd");
  equal(await new Blob(["a\r\nb"], { endings: "transparent" }).text(), "a\r\nb");
  const file = new File(["x"], "f.txt", { type: "t/x", lastModified: 5 });
  equal([file.name, file.lastModified, file.size, file instanceof Blob], ["f.txt", 5, 1, true]);
  const reader = new FileReader();
  const read = new Promise((resolve) => reader.onload = () => resolve(reader.result));
  reader.readAsText(blob);
  equal(await read, "abcd");
});

export default report;
