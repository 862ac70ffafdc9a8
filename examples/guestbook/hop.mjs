// A client that hops: it signs the guestbook at one point of presence and looks for its entry at
// the others at once. Run it from the repository, with nothing else:
//
//   node examples/guestbook/hop.mjs                 every entry is found
//   node examples/guestbook/hop.mjs --careless      with read_your_writes off: not so
//
// It starts `verge dev` by itself, with 150 ms between any two places and a data folder that is
// removed afterwards. VERGE names the program if it is not target/debug/verge or on the PATH.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const POPS = ["iad", "fra", "nrt"];
const ROUND_TRIP = "150ms";
const ROUNDS = 12;

const careless = process.argv.includes("--careless");
const here = dirname(fileURLToPath(import.meta.url));
const built = join(here, "../../target/debug/verge");
const program = process.env.VERGE ?? (existsSync(built) ? built : "verge");

const data = mkdtempSync(join(tmpdir(), "guestbook-"));
const links = ["iad-fra", "iad-nrt", "fra-nrt"].map((link) => `${link}=${ROUND_TRIP}`).join(",");
const verge = spawn(program, [
  "dev", here, "--json", "--port", "0", "--data", data, "--pops", POPS.join(","), "--rtt", links,
  ...(careless ? ["--env", "careless"] : []),
], { stdio: ["ignore", "pipe", "inherit"] });
verge.on("error", (error) => {
  console.error(`cannot start ${program}: ${error.message}; VERGE names another program`);
  process.exitCode = 1;
});

/** The places' addresses, once all are told. What is said later is read and dropped. */
function addresses() {
  const urls = new Map();
  return new Promise((resolve, reject) => {
    createInterface({ input: verge.stdout }).on("line", (line) => {
      const event = JSON.parse(line);
      if (event.event === "place") urls.set(event.pop, event.url);
      if (urls.size === POPS.length) resolve(urls);
    });
    verge.once("close", () => reject(new Error("verge dev ended before it was ready")));
  });
}

/** A client with a cookie jar, as a browser has one for all ports of a host. */
class Client {
  #jar = new Map();

  async ask(url, form) {
    const started = performance.now();
    const response = await fetch(url, {
      method: form ? "POST" : "GET",
      body: form,
      redirect: "manual",
      headers: { cookie: [...this.#jar].map(([name, value]) => `${name}=${value}`).join("; ") },
    });
    for (const set of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(set);
      if (set.includes("Max-Age=0")) this.#jar.delete(name);
      else this.#jar.set(name, value);
    }
    const text = await response.text();
    if (response.status >= 400) throw new Error(`${url} answered ${response.status}: ${text}`);
    const took = `${Math.round(performance.now() - started)} ms`;
    const timing = response.headers.get("server-timing") ?? "";
    return { text, took, how: /desc="([^"]*)"/.exec(timing)?.[1] ?? "" };
  }
}

try {
  const urls = await addresses();
  const client = new Client();
  let missed = 0;
  let looked = 0;
  console.log(`${ROUND_TRIP} between ${POPS.join(", ")}; read_your_writes is ${careless ? "off" : "on"}\n`);
  // The table is made first; without it, a place would ask the primary.
  await client.ask(`${urls.get("iad")}/sign`, new URLSearchParams({ name: "guest 0" }));
  await new Promise((resolve) => setTimeout(resolve, 1000));
  for (let round = 1; round <= ROUNDS; round += 1) {
    const order = POPS.map((_, at) => POPS[(round + at) % POPS.length]);
    const name = `guest ${round}`;
    const signed = await client.ask(`${urls.get(order[0])}/sign`, new URLSearchParams({ name }));
    console.log(`${name} signs at ${order[0]} in ${signed.took}`);
    for (const pop of order.slice(1)) {
      const { text, took, how } = await client.ask(`${urls.get(pop)}/entries`);
      const found = JSON.parse(text).includes(name);
      looked += 1;
      missed += found ? 0 : 1;
      console.log(`  ${pop}: ${found ? "there   " : "NOT THERE"} ${took.padStart(6)}  ${how}`);
    }
  }
  console.log(`\nlooked ${looked} times, missed ${missed}`);
  process.exitCode = careless || missed === 0 ? 0 : 1;
} finally {
  const ended = new Promise((resolve) => verge.once("exit", resolve));
  if (verge.exitCode === null && verge.pid) {
    verge.kill("SIGINT");
    await ended;
  }
  rmSync(data, { recursive: true, force: true });
}
