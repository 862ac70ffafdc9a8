// D1's documented API, case by case.
import { equal, ok, rejects, report, test, throws } from "./check.js";

const setUp = `
  DROP TABLE IF EXISTS users;
  CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, age REAL, photo BLOB);
  INSERT INTO users (name, age) VALUES ('ada', 36), ('grace', 85.5), ('joan', NULL);
`;
const withUsers = async (DB) => {
  await DB.exec(setUp);
  return DB;
};

test("exec counts its statements", async ({ env: { DB } }) => {
  const { count, duration } = await DB.exec(setUp);
  equal(count, 3);
  equal(typeof duration, "number");
});

test("all gives rows as objects, and a whole meta", async ({ env: { DB } }) => {
  await withUsers(DB);
  const { success, results, meta } = await DB.prepare("SELECT id, name, age FROM users ORDER BY id").all();
  ok(success);
  equal(results, [{ id: 1, name: "ada", age: 36 }, { id: 2, name: "grace", age: 85.5 }, { id: 3, name: "joan", age: null }]);
  equal(
    Object.keys(meta).sort(),
    ["changed_db", "changes", "duration", "last_row_id", "rows_read", "rows_written", "served_by", "served_by_primary", "served_by_region", "size_after", "timings"],
  );
  equal([meta.served_by, meta.served_by_region, meta.served_by_primary, meta.changed_db], ["node-1", "fra", true, false]);
  ok(meta.rows_read >= 3 && meta.size_after > 0 && meta.duration >= 0);
});

test("run tells what it changed", async ({ env: { DB } }) => {
  await withUsers(DB);
  const inserted = await DB.prepare("INSERT INTO users (name) VALUES (?)").bind("barbara").run();
  equal([inserted.meta.changes, inserted.meta.last_row_id, inserted.meta.changed_db], [1, 4, true]);
  ok(inserted.meta.rows_written >= 1);
  const updated = await DB.prepare("UPDATE users SET age = 1 WHERE id > ?").bind(1).run();
  equal(updated.meta.changes, 3);
  equal(inserted.results, []);
});

test("first gives a row, a column, or null", async ({ env: { DB } }) => {
  await withUsers(DB);
  equal(await DB.prepare("SELECT name, age FROM users ORDER BY id").first(), { name: "ada", age: 36 });
  equal(await DB.prepare("SELECT name, age FROM users WHERE id = ?").bind(2).first("name"), "grace");
  equal(await DB.prepare("SELECT name FROM users WHERE id = 99").first(), null);
  equal(await DB.prepare("SELECT name FROM users WHERE id = 99").first("name"), null);
  await rejects(DB.prepare("SELECT name FROM users").first("nope"), /D1_COLUMN_NOTFOUND/);
});

test("raw gives arrays, with names when asked", async ({ env: { DB } }) => {
  await withUsers(DB);
  equal(await DB.prepare("SELECT id, name FROM users WHERE id < 3").raw(), [[1, "ada"], [2, "grace"]]);
  equal(await DB.prepare("SELECT id, name FROM users WHERE id = 1").raw({ columnNames: true }), [["id", "name"], [1, "ada"]]);
});

test("two columns of one name: the last one wins in objects, raw has both", async ({ env: { DB } }) => {
  equal(await DB.prepare("SELECT 1 AS a, 2 AS a").first(), { a: 2 });
  equal(await DB.prepare("SELECT 1 AS a, 2 AS a").raw(), [[1, 2]]);
});

test("values go there and come back by D1's rules", async ({ env: { DB } }) => {
  const back = (value) => DB.prepare("SELECT ? AS v, typeof(?1) AS t").bind(value).first();
  equal(await back(null), { v: null, t: "null" });
  equal(await back(1), { v: 1, t: "integer" });
  equal(await back(1.5), { v: 1.5, t: "real" });
  equal(await back("\u00e9\ud83d\ude00"), { v: "\u00e9\ud83d\ude00", t: "text" });
  equal(await back(true), { v: 1, t: "integer" });
  equal(await back(false), { v: 0, t: "integer" });
  equal(await back(new Uint8Array([1, 2, 255])), { v: [1, 2, 255], t: "blob" });
  equal(await back(new Uint8Array([1, 2, 255]).buffer), { v: [1, 2, 255], t: "blob" });
  equal(await back(new Uint8Array([0, 1, 2]).subarray(1)), { v: [1, 2], t: "blob" });
  equal(await back(Number.MAX_SAFE_INTEGER), { v: Number.MAX_SAFE_INTEGER, t: "integer" });
  for (const value of [undefined, {}, () => {}, Symbol("s"), 1n]) {
    const error = throws(() => DB.prepare("SELECT ?").bind(value), /D1_TYPE_ERROR: Type '\w+' not supported for value/);
    ok(error instanceof Error);
  }
});

test("named and numbered parameters, and wrong counts", async ({ env: { DB } }) => {
  equal(await DB.prepare("SELECT ?2 AS b, ?1 AS a").bind("x", "y").first(), { b: "y", a: "x" });
  await rejects(DB.prepare("SELECT ?, ?").bind(1).all(), /D1_ERROR: .*/);
  await rejects(DB.prepare("SELECT ?").bind(1, 2).all(), /D1_ERROR: .*/);
});

test("a bound statement is a new one", async ({ env: { DB } }) => {
  const statement = DB.prepare("SELECT ? AS v");
  const one = statement.bind(1), two = statement.bind(2);
  equal([await one.first("v"), await two.first("v"), await one.first("v")], [1, 2, 1]);
});

test("batch is one transaction", async ({ env: { DB } }) => {
  await withUsers(DB);
  const insert = DB.prepare("INSERT INTO users (name) VALUES (?)");
  const results = await DB.batch([insert.bind("x"), insert.bind("y"), DB.prepare("SELECT count(*) AS n FROM users")]);
  equal(results.length, 3);
  equal(results[2].results, [{ n: 5 }]);
  await rejects(DB.batch([insert.bind("z"), insert.bind("ada")]), /D1_ERROR: UNIQUE constraint failed: users.name: SQLITE_CONSTRAINT/);
  equal(await DB.prepare("SELECT count(*) AS n FROM users WHERE name = 'z'").first("n"), 0);
  await rejects(DB.batch([{}]), TypeError);
});

test("errors have D1's texts and a cause", async ({ env: { DB } }) => {
  const error = await rejects(DB.prepare("SELECT * FROM nowhere").all(), /D1_ERROR: no such table: nowhere: SQLITE_ERROR/);
  equal(error.cause.message, "no such table: nowhere: SQLITE_ERROR");
  await rejects(DB.prepare("SELEC 1").all(), /D1_ERROR: near "SELEC": syntax error/);
  await rejects(DB.exec("SELECT 1;\nSELEC 2"), /D1_EXEC_ERROR/);
  await rejects(DB.prepare("BEGIN").run(), /D1_ERROR/);
  await rejects(DB.prepare("ATTACH 'x' AS y").run(), /D1_ERROR/);
  throws(() => DB.prepare(5), TypeError);
});

test("dump is a SQLite file", async ({ env: { DB } }) => {
  await withUsers(DB);
  const dump = await DB.dump();
  ok(dump instanceof ArrayBuffer);
  equal(new TextDecoder().decode(new Uint8Array(dump, 0, 15)), "SQLite format 3");
});

test("withSession goes on from a bookmark", async ({ env: { DB } }) => {
  await withUsers(DB);
  const session = DB.withSession("first-primary");
  equal(session.getBookmark(), null);
  await session.prepare("INSERT INTO users (name) VALUES ('s')").run();
  const bookmark = session.getBookmark();
  ok(/^[0-9a-f-]+$/.test(bookmark));
  const later = DB.withSession(bookmark);
  equal(await later.prepare("SELECT count(*) AS n FROM users").first("n"), 4);
  ok(later.getBookmark() >= bookmark);
  equal((await later.batch([DB.prepare("SELECT 1 AS one")]))[0].results, [{ one: 1 }]);
  throws(() => DB.withSession("nonsense"), /D1_SESSION_ERROR/);
  equal(await DB.withSession().prepare("SELECT 1 AS a").first("a"), 1);
});

test("statements run side by side", async ({ env: { DB } }) => {
  await withUsers(DB);
  const insert = DB.prepare("INSERT INTO users (name) VALUES (?)");
  await Promise.all(Array.from({ length: 50 }, (_, i) => insert.bind(`many-${i}`).run()));
  equal(await DB.prepare("SELECT count(*) AS n FROM users").first("n"), 53);
});

test("schema changes are seen by statements that were prepared before", async ({ env: { DB } }) => {
  await withUsers(DB);
  const all = DB.prepare("SELECT * FROM users WHERE id = 1");
  equal(Object.keys(await all.first()), ["id", "name", "age", "photo"]);
  await DB.exec("ALTER TABLE users ADD COLUMN email TEXT");
  equal(Object.keys(await all.first()), ["id", "name", "age", "photo", "email"]);
});

test("the classes look as Workers' do", ({ env: { DB } }) => {
  equal(Object.prototype.toString.call(DB), "[object D1Database]");
  equal(DB.prepare("SELECT 1").constructor.name, "D1PreparedStatement");
  throws(() => new DB.constructor(), TypeError);
});

export default report;
