// Point reads and single-row writes by `@libsql/client` on a local file; microseconds each, as
// JSON: `node libsql.mjs FILE READS WRITES`.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../peers/package.json", import.meta.url));
const { createClient } = require("@libsql/client");

const [file, reads, writes] = process.argv.slice(2);
const client = createClient({ url: `file:${file}` });
await client.execute("PRAGMA journal_mode = WAL");
await client.execute("PRAGMA synchronous = FULL");
await client.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL)");
await client.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT NOT NULL)");
await client.batch(
  Array.from({ length: 1000 }, (_, i) => ({
    sql: "INSERT INTO person VALUES (?1, ?2)",
    args: [i + 1, `person ${i + 1}`],
  })),
  "write",
);

async function each(count, run) {
  for (let i = 0; i < 200; i++) await run(i);
  const begun = performance.now();
  for (let i = 0; i < count; i++) await run(i);
  return ((performance.now() - begun) * 1000) / count;
}

const read = await each(Number(reads), (i) =>
  client.execute({ sql: "SELECT id, name FROM person WHERE id = ?1", args: [(i * 7919) % 1000 + 1] }));
const write = await each(Number(writes), () =>
  client.execute({ sql: "INSERT INTO entry (text) VALUES (?1)", args: ["an entry of a guest"] }));
console.log(JSON.stringify({ read, write }));
