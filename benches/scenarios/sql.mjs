// A database beside the code: one app with D1's API on Verge's replica and in miniflare, and the
// same statements by two SQLite drivers on a local file.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { connection, median, wrk } from "../harness/load.mjs";
import { freePort, run, serve } from "../harness/processes.mjs";
import { ms, thousands, times } from "../harness/report.mjs";

/** Statements in one request, so that the request itself weighs nothing. */
const READS = 2000;
const WRITES = 200;
/** Round trip between the two PoPs, ms. */
const RTT = 20;

export async function sql({ report, tools, scratch, root, load }) {
  report.section(
    "A database at every PoP",
    `\`SELECT id, name FROM person WHERE id = ?\` and single-row \`INSERT\`s, one after the other. Verge: \`verge dev --pops iad,fra\`, primary iad, read at the replica fra, written at iad; the app is the same in miniflare. The drivers run in a process of their own, on a file in WAL mode with \`synchronous = FULL\`.`,
  );
  const here = join(root, "benches/scenarios/sql");
  const folder = join(scratch, "sql");
  mkdirSync(folder, { recursive: true });
  const servers = [];
  try {
    const [iad, mini] = await Promise.all([1, 2].map(freePort));
    const fra = iad + 1;
    servers.push(
      await serve("verge", tools.verge, [
        "dev", here, "--pops", "iad,fra", "--primary", "iad", "--rtt", `iad-fra=${RTT}ms`,
        "--port", iad, "--data", join(folder, "verge"),
      ], { url: `http://127.0.0.1:${iad}/` }),
    );
    servers.push(
      await serve("miniflare", process.execPath, [
        join(here, "miniflare.mjs"), join(here, "worker.mjs"), mini, folder,
      ], { url: `http://127.0.0.1:${mini}/` }),
    );
    for (const port of [iad, mini]) await ask(port, "/setup");
    // The replica has it as soon as it answers with the last row.
    await until(async () => (await ask(fra, `/read?n=1000`)).includes("person"));

    const rounds = load.rounds;
    const verge = { read: await each(fra, "/read", READS, rounds), write: await each(iad, "/write", WRITES, rounds) };
    const miniflare = { read: await each(mini, "/read", READS, rounds), write: await each(mini, "/write", WRITES, rounds) };
    const driver = async (name, program, args) => {
      const all = [];
      for (let n = 0; n < rounds; n++) {
        const file = join(folder, `${name}-${n}.db`);
        all.push(JSON.parse(await run(program, [...args, file, READS * 5, WRITES])));
      }
      return { read: median(all.map((a) => a.read)), write: median(all.map((a) => a.write)) };
    };
    const libsql = await driver("libsql", process.execPath, [join(here, "libsql.mjs")]);
    const native = await driver("node", tools.deno, ["run", "-A", join(here, "node_sqlite.mjs")]);
    const row = (name, { read, write }) => [name, us(read), us(write), times(read / verge.read), times(write / verge.write)];
    report.table(
      ["", "point read", "durable insert", "read takes", "insert takes"],
      [
        row("verge, D1's API", verge),
        row("miniflare, D1's API", miniflare),
        row("`@libsql/client`, a file", libsql),
        row("Deno's `node:sqlite`, a file", native),
      ],
    );
    report.goal("a point read in JavaScript takes at most 10 µs", us(verge.read), verge.read <= 10);
    const beside = (peer) => peer.read / verge.read;
    report.goal("miniflare takes at least 50x", times(beside(miniflare)), beside(miniflare) >= 50);
    report.goal("`@libsql/client` takes at least 2x", times(beside(libsql)), beside(libsql) >= 2);

    // As warm as every other server here is when it is measured.
    await wrk(`http://127.0.0.1:${fra}/read?n=10`, { connections: 1, seconds: 2 });
    const page = await added({ port: fra, path: "/read?n=10" }, { port: fra, path: "/read?n=0" });
    report.goal("a page with 10 queries adds at most 150 µs", us(page * 1000), page <= 0.15);

    const writes = [];
    for (let n = 0; n < rounds; n++) {
      writes.push(await wrk(`http://127.0.0.1:${iad}/write`, { connections: 64, seconds: load.seconds }));
    }
    const rate = median(writes.map((w) => w.rps));
    report.goal("64 clients' durable inserts, over HTTP: at least 5,000/s", `${thousands(rate)}/s`, rate >= 5000);
    const peers = await wrk(`http://127.0.0.1:${mini}/write`, { connections: 64, seconds: load.seconds });
    report.goal("beside miniflare's", times(rate / peers.rps), null);

    const forwarded = await added({ port: fra, path: "/write" }, { port: iad, path: "/write" }, RTT) - RTT;
    report.goal(`a write at a replica costs one round trip (${RTT} ms) and at most 2 ms`, ms(forwarded), forwarded <= 2);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}

const us = (value) => `${value.toFixed(value < 100 ? 1 : 0)} µs`;

async function ask(port, path) {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${path} at port ${port}: ${answer.status}\n${text.slice(0, 500)}`);
  return text;
}

async function until(holds) {
  for (let n = 0; n < 200; n++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the replica did not get the data within 10 s");
}

/** Microseconds that one statement adds to a request of many. */
async function each(port, path, count, rounds) {
  const took = async (n) => {
    const begun = performance.now();
    await ask(port, `${path}?n=${n}`);
    return performance.now() - begun;
  };
  await took(count);
  const all = [];
  for (let n = 0; n < rounds; n++) all.push(((await took(count)) - (await took(0))) * 1000 / count);
  return median(all);
}

/**
 * How much longer than `base` a request takes, ms: the median of pairs, one after the other, so
 * that what the machine does meanwhile does the same to both. Each follows a pause of `rest` ms:
 * a request that waits for a link finds a machine that went to sleep, and so shall the other.
 */
async function added(request, base, rest = 0) {
  const connections = new Map();
  for (const { port } of [request, base]) {
    if (!connections.has(port)) connections.set(port, await connection(port));
  }
  const took = async ({ port, path }) => {
    await new Promise((resolve) => setTimeout(resolve, rest));
    return connections.get(port).get(path);
  };
  const all = [];
  for (let n = 0; n < 300; n++) {
    const [before, longer] = [await took(base), await took(request)];
    all.push(longer - before);
  }
  for (const one of connections.values()) one.close();
  return median(all.slice(50));
}
