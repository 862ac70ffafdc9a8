// Databases of `verge dev --pops`, as @libsql/client meets them at several places.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createClient } from "@libsql/client/web";
import { POPS, serve } from "./server.mjs";

let server;
before(async () => { server = await serve(); });
after(() => server.stop());

for (const scheme of ["http", "ws"]) {
  describe(`at every place over ${scheme}`, () => {
    const open = (pop) => createClient({ url: server.at(pop)[scheme], authToken: server.full });

    test("a client reads what it wrote, wherever the primary is", async () => {
      for (const pop of POPS) {
        const db = open(pop);
        await db.executeMultiple(`DROP TABLE IF EXISTS ${pop}; CREATE TABLE ${pop} (n)`);
        for (let round = 1; round <= 10; round += 1) {
          await db.execute({ sql: `INSERT INTO ${pop} VALUES (?)`, args: [round] });
          const { rows } = await db.execute(`SELECT count(*) AS n, max(n) AS last FROM ${pop}`);
          assert.deepEqual([rows[0].n, rows[0].last], [round, round], `${pop} ${round}`);
        }
        db.close();
      }
    });

    test("so does another client of the same place", async () => {
      const [one, other] = [open("nrt"), open("nrt")];
      await one.executeMultiple("DROP TABLE IF EXISTS both; CREATE TABLE both (n)");
      for (let round = 1; round <= 5; round += 1) {
        await one.execute({ sql: "INSERT INTO both VALUES (?)", args: [round] });
        assert.equal((await other.execute("SELECT count(*) AS n FROM both")).rows[0].n, round);
      }
      one.close();
      other.close();
    });

    test("what is written at one place arrives at the others", async () => {
      const writer = open("fra");
      await writer.executeMultiple("DROP TABLE IF EXISTS all_of_them; CREATE TABLE all_of_them (n)");
      await writer.execute("INSERT INTO all_of_them VALUES (7)");
      for (const pop of POPS) {
        const reader = open(pop);
        const until = Date.now() + 30_000;
        for (;;) {
          const found = await reader.execute("SELECT n FROM all_of_them").catch(() => undefined);
          if (found?.rows[0]?.n === 7) break;
          assert.ok(Date.now() < until, `${pop} never had it`);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        reader.close();
      }
      writer.close();
    });

    test("a batch of writes is one message to the primary's place, all or nothing", async () => {
      const db = open("fra");
      await db.executeMultiple("DROP TABLE IF EXISTS many; CREATE TABLE many (n UNIQUE)");
      // One by one they would take 400 round trips, 8 s, longer than a transaction may be open.
      const inserts = Array.from({ length: 400 }, (_, n) => ["INSERT INTO many VALUES (?)", [n]]);
      const results = await db.batch(inserts, "write");
      assert.deepEqual(results.map((one) => one.rowsAffected), Array(400).fill(1));
      assert.equal((await db.execute("SELECT count(*) AS n FROM many")).rows[0].n, 400);
      await assert.rejects(
        db.batch(["DELETE FROM many", "INSERT INTO many VALUES (1), (1)"], "write"),
        { code: "SQLITE_CONSTRAINT", statementIndex: 1 },
      );
      assert.equal((await db.execute("SELECT count(*) AS n FROM many")).rows[0].n, 400);
      const [, total] = await db.batch(["DELETE FROM many", "SELECT count(*) AS n FROM many"], "write");
      assert.equal(total.rows[0].n, 0);
      db.close();
    });

    test("an interactive transaction of a place without the primary", async () => {
      const db = open("fra");
      await db.executeMultiple("DROP TABLE IF EXISTS t; CREATE TABLE t (n)");
      const tx = await db.transaction("write");
      await tx.execute("INSERT INTO t VALUES (1)");
      assert.equal((await tx.execute("SELECT count(*) AS n FROM t")).rows[0].n, 1);
      await tx.commit();
      assert.equal((await db.execute("SELECT n FROM t")).rows[0].n, 1);
      db.close();
    });
  });
}

test("the app beside it answers, and knows nothing of the database's address", async () => {
  const { http } = server.at("iad");
  assert.equal(await (await fetch(new URL("/", http))).text(), "app");
  const other = await fetch(new URL("/__verge/db/nobody/v2", http));
  assert.equal(other.status, 404);
  // Without the slash at its end, a client asks here.
  const short = await fetch(new URL("/__verge/db/v2/pipeline", http), { method: "POST" });
  assert.equal(short.status, 404);
  assert.match(await short.text(), /with the slash at its end/);
});

test("the address is told by the command line", () => {
  const told = server.verge("db", "url", "book", "--pop", "nrt");
  assert.deepEqual([told.http, told.ws], Object.values(server.at("nrt")));
});

test("a rotated token is refused from the next request on, the other one is not", async () => {
  const { token } = server.verge("db", "token", "book", "--read-only");
  const reader = createClient({ url: server.at("fra").http, authToken: token });
  await reader.execute("SELECT 1");
  const next = server.verge("db", "token", "book", "--read-only", "--rotate").token;
  assert.notEqual(next, token);
  await assert.rejects(reader.execute("SELECT 1"), { code: "AUTH_JWT_INVALID" });
  reader.close();
  for (const authToken of [next, server.full]) {
    const db = createClient({ url: server.at("fra").http, authToken });
    assert.equal((await db.execute("SELECT 1 AS one")).rows[0].one, 1);
    db.close();
  }
});
