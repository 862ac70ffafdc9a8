// @libsql/hrana-client in version 3 (Protobuf, cursors), which @libsql/client does not ask for yet.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import * as hrana from "@libsql/hrana-client";
import { serve } from "./server.mjs";

let server;
before(async () => { server = await serve(); });
after(() => server.stop());

for (const scheme of ["http", "ws"]) {
  describe(`version 3 over ${scheme}`, () => {
    let client, stream;
    before(async () => {
      client = scheme === "http"
        ? hrana.openHttp(server.http, server.full, undefined, undefined, 3)
        : hrana.openWs(server.ws, server.full, 3);
      assert.equal(await client.getVersion(), 3);
    });
    after(() => client.close());
    beforeEach(async (t) => {
      stream = client.openStream();
      await stream.sequence("DROP TABLE IF EXISTS t; CREATE TABLE t (a TEXT, b)");
      t.after?.(() => stream.close());
    });

    test("values", async () => {
      const blob = new Uint8Array([1, 0, 255]);
      stream.intMode = "bigint";
      const row = await stream.queryRow(["SELECT ?, ?, ?, ?, ?, ?", [
        null, -5n, 2n ** 63n - 1n, 0.5, "žluťoučký", blob]]);
      assert.deepEqual(Array.from(row.row), [
        null, -5n, 2n ** 63n - 1n, 0.5, "žluťoučký", blob.buffer]);
      stream.close();
    });

    test("describe, stored SQL, autocommit", async () => {
      const described = await stream.describe("SELECT a, b + 1 AS c FROM t WHERE a = :x AND b = ?");
      assert.deepEqual(described.paramNames, [":x", undefined]);
      assert.deepEqual(described.columns.map((column) => [column.name, column.decltype]), [
        ["a", "TEXT"], ["c", undefined]]);
      assert.equal(described.isReadonly, true);
      assert.equal(described.isExplain, false);
      assert.equal((await stream.describe("EXPLAIN SELECT 1")).isExplain, true);
      assert.equal((await stream.describe("INSERT INTO t VALUES (1, 2)")).isReadonly, false);
      const owner = scheme === "http" ? stream : client;
      const sql = owner.storeSql("SELECT ? + 1");
      assert.equal((await stream.queryValue([sql, [41]])).value, 42);
      sql.close();
      assert.equal(await stream.getAutocommit(), true);
      await stream.run("BEGIN");
      assert.equal(await stream.getAutocommit(), false);
      await stream.run("ROLLBACK");
      stream.close();
    });

    for (const useCursor of [false, true]) {
      test(`a batch with conditions, ${useCursor ? "by cursor" : "at once"}`, async () => {
        const batch = stream.batch(useCursor);
        const first = batch.step();
        const inserted = first.run("INSERT INTO t VALUES ('x', 1), ('y', 2)");
        const bad = batch.step().condition(hrana.BatchCond.ok(first));
        const failing = bad.query("SELECT foobar");
        failing.catch(() => undefined);
        const skipped = batch.step().condition(hrana.BatchCond.ok(bad)).query("SELECT 1");
        const then = batch.step()
          .condition(hrana.BatchCond.and(batch, [
            hrana.BatchCond.error(bad), hrana.BatchCond.isAutocommit(batch),
            hrana.BatchCond.or(batch, [hrana.BatchCond.ok(bad), hrana.BatchCond.ok(first)]),
          ]));
        const rows = then.query("SELECT * FROM t ORDER BY b");
        await batch.execute();
        assert.equal((await inserted).affectedRowCount, 2);
        await assert.rejects(failing, { code: "SQLITE_ERROR" });
        assert.equal(await skipped, undefined);
        assert.deepEqual((await rows).rows.map((row) => row.a), ["x", "y"]);
        stream.close();
      });
    }

    test("a cursor streams more than a response may hold", async () => {
      const batch = stream.batch(true);
      const rows = batch.step().query(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150000) " +
        "SELECT i, 'some text that takes a little room in each of the rows' FROM n");
      await batch.execute();
      const got = (await rows).rows;
      assert.equal(got.length, 150_000);
      assert.equal(got[149_999][0], 150_000);
      assert.equal((await stream.queryValue("SELECT 7")).value, 7, "the stream goes on");
      stream.close();
    });
  });
}
