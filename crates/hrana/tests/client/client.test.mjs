// The unmodified @libsql/client over HTTP and WebSocket.
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { createClient } from "@libsql/client/web";
import { serve } from "./server.mjs";

let server;
before(async () => { server = await serve(); });
after(() => server.stop());

for (const scheme of ["http", "ws"]) {
  describe(`over ${scheme}`, () => {
    let db;
    const open = (config = {}) =>
      createClient({ url: server[scheme], authToken: server.full, ...config });
    before(() => { db = open(); });
    after(() => db.close());
    beforeEach(() => db.executeMultiple(`
      DROP TABLE IF EXISTS child; DROP TABLE IF EXISTS users; DROP TABLE IF EXISTS t;
      CREATE TABLE t (a)`));

    test("the quick start of the README", async () => {
      await db.batch(
        [
          "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)",
          { sql: "INSERT INTO users(name) VALUES (?)", args: ["Iku"] },
        ],
        "write",
      );
      const found = await db.execute({ sql: "SELECT * FROM users WHERE id = ?", args: [1] });
      assert.deepEqual(found.columns, ["id", "name"]);
      assert.deepEqual(found.columnTypes, ["INTEGER", "TEXT"]);
      assert.equal(found.rows[0].name, "Iku");
      assert.equal(found.rows[0][0], 1);
    });

    test("values of every type come back as they went", async () => {
      const blob = new Uint8Array([0, 1, 2, 253, 254, 255, 7]).buffer;
      const values = [null, 1.5, -0.25, 42, "é\u0000\u{1f600}", "", blob, new ArrayBuffer(0)];
      for (const value of values) {
        const got = await db.execute({ sql: "SELECT ?", args: [value] });
        assert.deepEqual(got.rows[0][0], value);
      }
      const exact = open({ intMode: "bigint" });
      for (const value of [2n ** 63n - 1n, -(2n ** 63n), 0n]) {
        const got = await exact.execute({ sql: "SELECT ?, typeof(?)", args: [value, value] });
        assert.deepEqual([got.rows[0][0], got.rows[0][1]], [value, "integer"]);
      }
      exact.close();
      assert.equal((await db.execute("SELECT 9e999")).rows[0][0], Infinity);
      const date = new Date("2024-02-29T00:00:00Z");
      const got = await db.execute({ sql: "SELECT ?, ?", args: [date, true] });
      assert.deepEqual([got.rows[0][0], got.rows[0][1]], [date.valueOf(), 1]);
    });

    test("arguments by name and position; wrong ones are errors", async () => {
      const got = await db.execute({
        sql: "SELECT :a, @b, $c", args: { a: 1, b: "two", $c: 3 },
      });
      assert.deepEqual(Object.values(got.rows[0]), [1, "two", 3]);
      const many = Array.from({ length: 300 }, (_, index) => index);
      const found = await db.execute(`SELECT 299 IN (${many.map(() => "?").join(",")})`, many);
      assert.equal(found.rows[0][0], 1);
      for (const args of [[], [1, 2], { nobody: 1 }]) {
        await assert.rejects(db.execute({ sql: "SELECT ?", args }), { code: "ARGS_INVALID" });
      }
    });

    test("what a write says of itself", async () => {
      const first = await db.execute("INSERT INTO t VALUES (1), (2), (3)");
      assert.equal(first.rowsAffected, 3);
      assert.equal(first.lastInsertRowid, 3n);
      assert.equal((await db.execute("UPDATE t SET a = 9 WHERE a > 1")).rowsAffected, 2);
      const back = await db.execute("DELETE FROM t WHERE a = 9 RETURNING rowid, a");
      assert.equal(back.rows.length, 2);
      assert.equal(back.rowsAffected, 2);
    });

    test("errors carry SQLite's code and message", async () => {
      await assert.rejects(db.execute("SELECT foobar"), {
        name: "LibsqlError", code: "SQLITE_ERROR", message: /no such column: foobar/,
      });
      await assert.rejects(db.execute("SELEC 1"), { code: "SQLITE_ERROR" });
      await assert.rejects(db.execute("SELECT 1; SELECT 2"), { code: "SQL_MANY_STATEMENTS" });
      await assert.rejects(db.execute(" -- nothing"), { code: "SQL_NO_STATEMENT" });
      await db.execute("CREATE UNIQUE INDEX i ON t (a)");
      await db.execute("INSERT INTO t VALUES (1)");
      await assert.rejects(db.execute("INSERT INTO t VALUES (1)"), {
        code: "SQLITE_CONSTRAINT", message: /UNIQUE constraint failed: t\.a/,
      });
      assert.equal((await db.execute("SELECT 1")).rows.length, 1, "the client goes on");
    });

    test("batches: all or nothing, results in order, arguments in each", async () => {
      const results = await db.batch([
        "INSERT INTO t VALUES (1)",
        ["INSERT INTO t VALUES (?)", [2]],
        { sql: "INSERT INTO t VALUES (:three)", args: { three: 3 } },
        "SELECT sum(a) AS total FROM t",
      ], "write");
      assert.equal(results.length, 4);
      assert.equal(results[3].rows[0].total, 6);
      await assert.rejects(
        db.batch(["INSERT INTO t VALUES (4)", "SELECT foobar", "INSERT INTO t VALUES (5)"], "write"),
        { name: "LibsqlBatchError", code: "SQLITE_ERROR", statementIndex: 1 },
      );
      assert.equal((await db.execute("SELECT count(*) FROM t")).rows[0][0], 3);
      const reads = await db.batch(["SELECT 1", "SELECT 2"], "read");
      assert.equal(reads[1].rows[0][0], 2);
      await assert.rejects(db.batch(["INSERT INTO t VALUES (9)"], "read"));
      // The same text over and over: stored once on the server.
      const many = await db.batch(Array(500).fill(["INSERT INTO t VALUES (?)", [1]]), "deferred");
      assert.equal(many.length, 500);
      // More texts than the client's cache and the server's store hold.
      const texts = Array.from({ length: 1000 }, (_, index) => `SELECT ${index} AS n`);
      const got = await db.batch(texts, "read");
      assert.equal(got[999].rows[0].n, 999);
    });

    test("executeMultiple stops at the first error", async () => {
      await db.executeMultiple("INSERT INTO t VALUES (1); INSERT INTO t VALUES (';'); SELECT 1;");
      await assert.rejects(
        db.executeMultiple("INSERT INTO t VALUES (3); SELECT foobar; INSERT INTO t VALUES (4)"),
        { code: "SQLITE_ERROR" },
      );
      assert.equal((await db.execute("SELECT count(*) FROM t")).rows[0][0], 3);
    });

    test("migrate may break foreign keys on its way", async () => {
      await db.migrate([
        "CREATE TABLE users (id INTEGER PRIMARY KEY)",
        "CREATE TABLE child (of REFERENCES users (id))",
        "INSERT INTO child VALUES (77)",
        "INSERT INTO users VALUES (77)",
      ]);
      assert.equal((await db.execute("SELECT of FROM child")).rows[0].of, 77);
      await assert.rejects(db.migrate(["CREATE TABLE x (a)", "SELECT foobar"]));
      await assert.rejects(db.execute("SELECT * FROM x"), { message: /no such table/ });
    });

    test("an interactive transaction commits", async () => {
      const tx = await db.transaction("write");
      await tx.execute("INSERT INTO t VALUES (1)");
      const { rows } = await tx.execute("SELECT count(*) FROM t");
      await tx.execute({ sql: "INSERT INTO t VALUES (?)", args: [rows[0][0] + 10] });
      const [, counted] = await tx.batch([
        "INSERT INTO t VALUES (3)", "SELECT count(*) FROM t",
      ]);
      assert.equal(counted.rows[0][0], 3);
      await tx.executeMultiple("INSERT INTO t VALUES (4); INSERT INTO t VALUES (5)");
      assert.equal((await db.execute("SELECT count(*) FROM t")).rows[0][0], 0, "not yet");
      await tx.commit();
      assert.equal(tx.closed, true);
      const after = await db.execute("SELECT a FROM t ORDER BY a");
      assert.deepEqual(after.rows.map((row) => row.a), [1, 3, 4, 5, 11]);
    });

    test("an interactive transaction rolls back, also when it is only closed", async () => {
      for (const end of [(tx) => tx.rollback(), async (tx) => tx.close()]) {
        const tx = await db.transaction("write");
        await tx.execute("INSERT INTO t VALUES (1)");
        await end(tx);
        await assert.rejects(tx.execute("SELECT 1"), { code: "TRANSACTION_CLOSED" });
        // The writer is free again: a second one can begin.
        const next = await db.transaction("write");
        assert.equal((await next.execute("SELECT count(*) FROM t")).rows[0][0], 0);
        await next.commit();
      }
    });

    test("a failed statement does not end the transaction", async () => {
      const tx = await db.transaction("write");
      await tx.execute("INSERT INTO t VALUES (1)");
      await assert.rejects(tx.execute("SELECT foobar"), { code: "SQLITE_ERROR" });
      await tx.execute("INSERT INTO t VALUES (2)");
      await tx.commit();
      assert.equal((await db.execute("SELECT count(*) FROM t")).rows[0][0], 2);
    });

    test("read and deferred transactions", async () => {
      const read = await db.transaction("read");
      assert.equal((await read.execute("SELECT count(*) FROM t")).rows[0][0], 0);
      await db.execute("INSERT INTO t VALUES (1)");
      assert.equal((await read.execute("SELECT count(*) FROM t")).rows[0][0], 0, "a snapshot");
      await assert.rejects(read.execute("INSERT INTO t VALUES (2)"));
      await read.commit();
      const deferred = await db.transaction("deferred");
      await deferred.execute("SELECT count(*) FROM t");
      await deferred.execute("INSERT INTO t VALUES (3)");
      await deferred.commit();
      assert.equal((await db.execute("SELECT count(*) FROM t")).rows[0][0], 2);
    });

    test("a second writer waits for the first", async () => {
      const first = await db.transaction("write");
      await first.execute("INSERT INTO t VALUES (1)");
      const second = await db.transaction("write");
      const waiting = second.execute("INSERT INTO t VALUES (2)");
      await new Promise((resolve) => setTimeout(resolve, 50));
      await first.commit();
      await waiting;
      await second.commit();
      assert.equal((await db.execute("SELECT count(*) FROM t")).rows[0][0], 2);
    });

    test("many at a time", async () => {
      await Promise.all(Array.from({ length: 200 }, (_, index) =>
        db.execute({ sql: "INSERT INTO t VALUES (?)", args: [index] })));
      const got = await db.execute("SELECT count(DISTINCT a) AS n FROM t");
      assert.equal(got.rows[0].n, 200);
    });

    test("large results, up to the limit", async () => {
      const rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)";
      const got = await db.execute({ sql: `${rows} SELECT i, 'abcdefgh' FROM n`, args: [50_000] });
      assert.equal(got.rows.length, 50_000);
      await assert.rejects(
        db.execute({ sql: `${rows} SELECT i FROM n`, args: [2_000_000] }),
        { code: "RESPONSE_TOO_LARGE" },
      );
      const text = "x".repeat(4 << 20);
      const back = await db.execute({ sql: "SELECT ? AS text", args: [text] });
      assert.equal(back.rows[0].text, text);
    });

    test("a read-only token reads and does not write", async () => {
      const reader = open({ authToken: server.readOnly });
      assert.equal((await reader.execute("SELECT 1")).rows[0][0], 1);
      await assert.rejects(reader.execute("INSERT INTO t VALUES (1)"));
      await assert.rejects(reader.batch(["DELETE FROM t"], "write"));
      reader.close();
    });

    test("a wrong token or none is refused", async () => {
      const wrong = open({ authToken: "wrong" });
      await assert.rejects(wrong.execute("SELECT 1"), { code: "AUTH_JWT_INVALID" });
      wrong.close();
      const none = open({ authToken: undefined });
      const code = scheme === "http" ? "AUTH_HTTP_HEADER_MISSING" : "AUTH_JWT_MISSING";
      await assert.rejects(none.execute("SELECT 1"), { code });
      none.close();
    });

    test("the client reconnects", async () => {
      const other = open();
      await other.execute("SELECT 1");
      await other.reconnect();
      assert.equal((await other.execute("SELECT 1")).rows.length, 1);
      other.close();
      await assert.rejects(async () => other.execute("SELECT 1"));
    });
  });
}
