// The React example: one bundle, two runtimes; and when its bytes leave.

import { connect } from "node:net";
import { join } from "node:path";

import { compare, median } from "../harness/load.mjs";
import { freePort, run, serve } from "../harness/processes.mjs";
import { ms, thousands, times } from "../harness/report.mjs";

const SLOW_MS = 300;
/** The fallback is in the shell, the last city in the slow data. */
const SHELL = "Asking a slow database";

export async function react({ report, tools, scratch, root, load }) {
  report.section(
    "React 19, streamed",
    "The example `react`: `renderToReadableStream` with a list under `Suspense`. Throughput with data that is there at once (`?slow=0`), the bundle that `verge build --minify` made run by both; then one request with data that takes 300 ms, by the times at which bytes came over the socket.",
  );
  const out = join(scratch, "react");
  await run(tools.verge, ["build", join(root, "examples/react"), "--minify", "--out", out]);
  const bundle = join(out, "modules/index.js");
  const servers = [];
  try {
    const ports = await Promise.all([1, 2].map(freePort));
    const url = (port) => `http://127.0.0.1:${port}/?slow=0`;
    servers.push(await serve("verge", tools.serve, [bundle, ports[0]], { url: url(ports[0]) }));
    const deno = ["serve", "--host", "127.0.0.1", "--port", ports[1], bundle];
    const env = { ...process.env, NODE_ENV: "production" };
    servers.push(await serve("deno", tools.deno, deno, { url: url(ports[1]), env }));
    const results = await compare(servers, load);
    const verge = results.get("verge");
    report.table(
      ["server", "pages/s", "p50", "p99"],
      [...results].map(([name, { rps, p50, p99 }]) => [name, thousands(rps), ms(p50), ms(p99)]),
    );
    const ratio = verge.rps / results.get("deno").rps;
    report.goal("at least 0.8x `deno serve` on the same bundle", times(ratio), ratio >= 0.8);

    const seen = [];
    for (let n = 0; n < 9; n++) seen.push(await watch(ports[0]));
    const shell = median(seen.map(({ shell }) => shell));
    const end = median(seen.map(({ end }) => end));
    report.goal(
      `the shell is on the wire before the slow data (${SLOW_MS} ms)`,
      `shell after ${ms(shell)}, end after ${ms(end)}`,
      seen.every(({ shell, end }) => shell < SLOW_MS && end >= SLOW_MS),
    );
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}

/** When the shell and when the end of one page came, in ms after the request was written. */
function watch(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    let begun;
    let shell;
    let text = "";
    socket.setTimeout(10_000, () => socket.destroy(new Error("the page did not come")));
    socket.once("error", reject);
    socket.once("connect", () => {
      begun = performance.now();
      socket.write(`GET /?slow=${SLOW_MS} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n`);
    });
    socket.on("data", (chunk) => {
      text += chunk;
      if (shell === undefined && text.includes(SHELL)) shell = performance.now() - begun;
    });
    socket.once("end", () => {
      if (shell === undefined) reject(new Error(`no shell in the page:\n${text.slice(0, 500)}`));
      else resolve({ shell, end: performance.now() - begun });
    });
  });
}
