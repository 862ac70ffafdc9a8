// Starts a server on a database of its own, and ends it: `verge dev` (VERGE names the program) as
// people run it, or the crate's example (HRANA_SERVE), whose limits a test may set.
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { HRANA_SERVE, VERGE, VERGE_PLACE = "iad" } = process.env;
if (!HRANA_SERVE && !VERGE) {
  throw new Error("VERGE has to name the verge program, or HRANA_SERVE the example server");
}

export const POPS = ["iad", "fra", "nrt"];

export async function serve({ tokens = ["full-token", "read-only-token"], env = {} } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "hrana-"));
  return VERGE ? dev(folder) : example(folder, tokens, env);
}

async function example(folder, tokens, env) {
  const child = start(HRANA_SERVE, ["0", join(folder, "test.db"), ...tokens], env);
  const line = await child.line((text) => text.startsWith("ready "));
  const address = line.replace("ready ", "");
  const [full, readOnly] = tokens;
  return {
    full,
    readOnly,
    http: `http://${address}`,
    ws: `ws://${address}`,
    stop: () => child.stop(folder),
  };
}

// Three places, of which the clients use the one that VERGE_PLACE names; iad is the primary.
async function dev(folder) {
  const app = join(folder, "app");
  mkdirSync(app);
  writeFileSync(join(app, "index.js"), "export default { fetch: () => new Response('app') };");
  writeFileSync(join(app, "verge.jsonc"), JSON.stringify({
    name: "app",
    main: "index.js",
    d1_databases: [{ binding: "DB", database_name: "book" }],
  }));
  const links = ["iad-fra=20ms", "iad-nrt=20ms", "fra-nrt=20ms"].join(",");
  const child = start(VERGE, [
    "dev", app, "--json", "--port", "0", "--pops", POPS.join(","), "--rtt", links,
  ]);
  const data = join(app, ".verge/data");
  const verge = (...words) =>
    JSON.parse(execFileSync(VERGE, [...words, "--data", data, "--json"], { encoding: "utf8" }));
  const event = JSON.parse(await child.line((text) => text.includes('"event":"database"')));
  const at = (pop) => {
    const url = event.at.find((place) => place.pop === pop).url;
    return { http: url, ws: url.replace(/^http/, "ws") };
  };
  return {
    full: verge("db", "token", "book").token,
    readOnly: verge("db", "token", "book", "--read-only").token,
    ...at(VERGE_PLACE),
    at,
    verge,
    stop: () => child.stop(folder),
  };
}

function start(program, words, env = {}) {
  const child = spawn(program, words, {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  const lines = createInterface({ input: child.stdout });
  return {
    line: (wanted) => new Promise((resolve, reject) => {
      lines.on("line", (text) => { if (wanted(text)) resolve(text); });
      child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
    }),
    async stop(folder) {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
