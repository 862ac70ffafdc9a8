// The same by Deno's `node:sqlite`, which answers without a promise.

import { DatabaseSync } from "node:sqlite";
import process from "node:process";

const [file, reads, writes] = process.argv.slice(2);
const db = new DatabaseSync(file);
db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
db.exec("CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL)");
db.exec("CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT NOT NULL)");
const person = db.prepare("INSERT INTO person VALUES (?1, ?2)");
db.exec("BEGIN");
for (let i = 0; i < 1000; i++) person.run(i + 1, `person ${i + 1}`);
db.exec("COMMIT");

function each(count, run) {
  for (let i = 0; i < 200; i++) run(i);
  const begun = performance.now();
  for (let i = 0; i < count; i++) run(i);
  return ((performance.now() - begun) * 1000) / count;
}

const one = db.prepare("SELECT id, name FROM person WHERE id = ?1");
const insert = db.prepare("INSERT INTO entry (text) VALUES (?1)");
const read = each(Number(reads), (i) => one.get((i * 7919) % 1000 + 1));
const write = each(Number(writes), () => insert.run("an entry of a guest"));
console.log(JSON.stringify({ read, write }));
