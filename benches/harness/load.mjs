// Load by wrk, in rounds that go around the servers, so that a slow minute of the machine
// meets all of them.

import { connect } from "node:net";

import { run } from "./processes.mjs";

const UNITS = { us: 0.001, ms: 1, s: 1000, m: 60_000 };

/** One run of wrk: requests a second, latencies in ms, failed requests. */
export async function wrk(url, { connections = 32, seconds = 5 } = {}) {
  const out = await run("wrk", [
    "--latency",
    "-t1",
    `-c${connections}`,
    `-d${seconds}s`,
    url,
  ]);
  const number = (pattern) => {
    const found = out.match(pattern);
    if (!found) throw new Error(`wrk said something else:\n${out}`);
    return Number(found[1]) * (UNITS[found[2]] ?? 1);
  };
  const failed = out.match(/Non-2xx or 3xx responses: (\d+)/)?.[1] ?? 0;
  const sockets = out.match(/Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/);
  return {
    rps: number(/Requests\/sec:\s+([\d.]+)/),
    p50: number(/50%\s+([\d.]+)(us|ms|s|m)/),
    p99: number(/99%\s+([\d.]+)(us|ms|s|m)/),
    failed: Number(failed) + (sockets ?? []).slice(1).reduce((sum, n) => sum + Number(n), 0),
  };
}

/**
 * One connection that is kept, for the time of single requests: `get(path)` gives ms until the
 * last byte. A library's client would add what it does with each header.
 */
export async function connection(port) {
  const socket = connect(port, "127.0.0.1");
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.setNoDelay(true);
  socket.setTimeout(30_000, () => socket.destroy(new Error(`port ${port}: no answer in 30 s`)));
  let pending;
  let got = "";
  const fail = (error) => pending?.reject(error);
  const ended = () => new Error(`port ${port}: the connection ended`);
  socket.on("error", fail).on("close", () => fail(ended()));
  socket.on("data", (bytes) => {
    got += bytes.latin1Slice();
    const head = got.indexOf("\r\n\r\n");
    if (head < 0) return;
    const length = Number(got.match(/^content-length: (\d+)/im)?.[1]);
    if (!got.startsWith("HTTP/1.1 200 ") || Number.isNaN(length)) {
      return fail(new Error(`port ${port}: not an answer to be timed:\n${got.slice(0, 500)}`));
    }
    if (got.length < head + 4 + length) return;
    const took = performance.now() - pending.begun;
    got = "";
    pending.resolve(took);
  });
  return {
    get: (path) =>
      new Promise((resolve, reject) => {
        if (socket.destroyed) return reject(ended());
        pending = { resolve, reject, begun: performance.now() };
        socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n`);
      }),
    close: () => socket.destroy(),
  };
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

export function percentile(values, percent) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))];
}

/** Loads every server `rounds` times in turn; each one's medians. */
export async function compare(servers, { rounds = 5, ...load } = {}) {
  const results = new Map(servers.map((server) => [server.name, []]));
  for (const server of servers) await wrk(server.url, { ...load, seconds: 2 });
  for (let round = 0; round < rounds; round++) {
    for (const server of servers) {
      const result = await wrk(server.url, load);
      if (result.failed > 0) throw new Error(`${server.name}: ${result.failed} requests failed`);
      results.get(server.name).push(result);
    }
  }
  return new Map(
    [...results].map(([name, all]) => [
      name,
      Object.fromEntries(["rps", "p50", "p99"].map((key) => [key, median(all.map((r) => r[key]))])),
    ]),
  );
}
