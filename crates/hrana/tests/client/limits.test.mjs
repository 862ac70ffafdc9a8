// What happens to clients that are too slow, and to what is not a client.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "@libsql/client/web";
import { serve } from "./server.mjs";

let server;
before(async () => {
  server = await serve({ tokens: [], env: { HRANA_WRITE_TRANSACTION_MS: "200" } });
});
after(() => server.stop());

for (const scheme of ["http", "ws"]) {
  test(`a write transaction over ${scheme} ends at its deadline and frees the writer`, async () => {
    const db = createClient({ url: server[scheme] });
    await db.executeMultiple("DROP TABLE IF EXISTS t; CREATE TABLE t (a)");
    const slow = await db.transaction("write");
    await slow.execute("INSERT INTO t VALUES (1)");
    // Waits for the writer, which only the deadline frees.
    await db.execute("INSERT INTO t VALUES (2)");
    await assert.rejects(slow.execute("INSERT INTO t VALUES (3)"), { code: "TRANSACTION_TIMEOUT" });
    await assert.rejects(slow.commit(), { code: "TRANSACTION_TIMEOUT" });
    const { rows } = await db.execute("SELECT a FROM t");
    assert.deepEqual(rows.map((row) => row.a), [2]);
    db.close();
  });
}

describe("plain requests", () => {
  const post = (path, body, headers = {}) =>
    fetch(server.http + path, { method: "POST", body: JSON.stringify(body), headers });
  const execute = { type: "execute", stmt: { sql: "SELECT 1" } };

  test("a baton is good once, and nobody can make one", async () => {
    const { baton } = await (await post("/v2/pipeline", { baton: null, requests: [execute] })).json();
    const next = await (await post("/v3/pipeline", { baton, requests: [execute] })).json();
    assert.notEqual(next.baton, baton);
    const again = await post("/v2/pipeline", { baton, requests: [execute] });
    assert.equal(again.status, 400);
    assert.equal((await again.json()).code, "STREAM_BATON_USED");
    const forged = await post("/v2/pipeline", { baton: "x".repeat(54), requests: [execute] });
    assert.equal((await forged.json()).code, "STREAM_BATON_INVALID");
    const closed = await (await post("/v2/pipeline", {
      baton: next.baton, requests: [{ type: "close" }, execute],
    })).json();
    assert.equal(closed.baton, null);
    assert.equal(closed.results[1].error.code, "STREAM_CLOSED");
  });

  test("a cursor is lines of JSON", async () => {
    const response = await post("/v3/cursor", {
      batch: { steps: [{ stmt: { sql: "SELECT 1 AS one" } }, { stmt: { sql: "SELEC" } }] },
    });
    const lines = (await response.text()).trim().split("\n").map((line) => JSON.parse(line));
    assert.equal(typeof lines[0].baton, "string");
    assert.deepEqual(lines.slice(1).map((line) => line.type),
      ["step_begin", "row", "step_end", "step_error"]);
    assert.deepEqual(lines[2].row, [{ type: "integer", value: "1" }]);
  });

  test("a page in a browser needs a token", async () => {
    const response = await post("/v2/pipeline", { requests: [execute] }, { origin: "http://evil.example" });
    assert.equal(response.status, 403);
    assert.equal((await response.json()).code, "ORIGIN_FORBIDDEN");
  });

  test("versions, and what is not there", async () => {
    for (const path of ["/v2", "/v3", "/v3-protobuf"]) {
      assert.equal((await fetch(server.http + path)).status, 200);
    }
    assert.equal((await fetch(server.http + "/v1")).status, 404);
    const broken = await post("/v2/pipeline", { requests: [{ type: "what" }] });
    assert.equal(broken.status, 400);
    assert.equal((await broken.json()).code, "HRANA_PROTO_ERROR");
  });
});
