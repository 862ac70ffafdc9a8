// What Verge adds to D1.
import { equal, ok, rejects, report, test, throws } from "./check.js";

const fresh = async (DB) => {
  await DB.exec("DROP TABLE IF EXISTS t; CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)");
  return DB;
};
const count = (DB) => DB.prepare("SELECT count(*) AS n FROM t").first("n");

test("a transaction commits what it read and wrote", async ({ env: { DB } }) => {
  await fresh(DB);
  const made = await DB.transaction(async (tx) => {
    await tx.prepare("INSERT INTO t (v) VALUES (?)").bind("a").run();
    const n = await tx.prepare("SELECT count(*) AS n FROM t").first("n");
    await tx.batch([tx.prepare("INSERT INTO t (v) VALUES ('b')"), tx.prepare("INSERT INTO t (v) VALUES ('c')")]);
    return n;
  });
  equal(made, 1);
  equal(await count(DB), 3);
});

test("a transaction that throws changes nothing", async ({ env: { DB } }) => {
  await fresh(DB);
  await rejects(
    DB.transaction(async (tx) => {
      await tx.prepare("INSERT INTO t (v) VALUES ('x')").run();
      throw new RangeError("no");
    }),
    RangeError,
  );
  equal(await count(DB), 0);
  await rejects(DB.transaction((tx) => tx.prepare("SELEC").run()), /D1_ERROR/);
  equal(await count(DB), 0);
});

test("a transaction ends at its deadline, and the writer is free", async ({ env: { DB } }) => {
  await fresh(DB);
  await rejects(
    DB.transaction(async (tx) => {
      await tx.prepare("INSERT INTO t (v) VALUES ('late')").run();
      await scheduler.wait(400);
      await tx.prepare("INSERT INTO t (v) VALUES ('later')").run();
    }, { deadline: 100 }),
    /D1_ERROR/,
  );
  await DB.prepare("INSERT INTO t (v) VALUES ('after')").run();
  equal(await count(DB), 1);
});

test("a statement of a transaction that is over is refused", async ({ env: { DB } }) => {
  await fresh(DB);
  let kept;
  await DB.transaction(async (tx) => void (kept = tx));
  await rejects(kept.prepare("SELECT 1").all(), /over/);
  throws(() => kept.prepare("SELECT 1").iterate(), TypeError);
});

test("iterate gives all rows in bounded pieces", async ({ env: { DB } }) => {
  await fresh(DB);
  await DB.prepare("INSERT INTO t (v) WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000) SELECT 'row ' || x FROM n").run();
  let n = 0, sum = 0;
  for await (const row of DB.prepare("SELECT id, v FROM t WHERE id > ? ORDER BY id").bind(10).iterate()) {
    n++;
    sum += row.id;
    if (n === 1) equal(row, { id: 11, v: "row 11" });
  }
  equal([n, sum], [4990, 5000 * 5001 / 2 - 55]);
  for await (const _ of DB.prepare("SELECT id FROM t").iterate()) break;
  for await (const _ of DB.prepare("SELECT id FROM t WHERE id < 0").iterate()) ok(false);
  await rejects(async () => {
    for await (const _ of DB.prepare("DELETE FROM t").iterate());
  }, /D1_ERROR/);
  equal(await count(DB), 5000);
});

test("strong and bounded-staleness reads", async ({ env: { DB } }) => {
  await fresh(DB);
  const strong = DB.withSession({ strong: true });
  equal(await count(strong), 0);
  equal(await count(DB.withSession({ maxStaleness: 1000 })), 0);
  throws(() => DB.withSession({ maxStaleness: "soon" }), RangeError);
});

export default report;
