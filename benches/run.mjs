// Measures Verge beside its peers and writes docs/performance.md: `make bench`.
//
//   node benches/run.mjs [--quick] [SCENARIO…]
//
// With scenarios named, or with --quick, nothing is written: the numbers are for looking.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { run } from "./harness/processes.mjs";
import { Report } from "./harness/report.mjs";
import { hello } from "./scenarios/hello.mjs";
import { isolates } from "./scenarios/isolates.mjs";
import { limits } from "./scenarios/limits.mjs";
import { react } from "./scenarios/react.mjs";
import { rebuild } from "./scenarios/rebuild.mjs";
import { files } from "./scenarios/static.mjs";
import { sql } from "./scenarios/sql.mjs";
import { replication } from "./scenarios/replication.mjs";

const SCENARIOS = { hello, react, isolates, limits, rebuild, files, sql, replication };

const root = fileURLToPath(new URL("..", import.meta.url));
const peers = join(root, "benches/peers/node_modules");
const release = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "release");
const architecture = { x64: { deno: "x64", workerd: "64" }, arm64: { deno: "arm64", workerd: "arm64" } };
const names = architecture[process.arch];
if (process.platform !== "linux" || !names) {
  console.error(`bench: the peers are installed for Linux on x64 and arm64, not ${process.platform}`);
  process.exit(1);
}
const tools = {
  verge: join(release, "verge"),
  serve: join(release, "serve"),
  isolates: join(release, "isolates"),
  limits: join(release, "limits"),
  replication: join(release, "replication"),
  databases: join(release, "databases"),
  deno: join(peers, `@deno/linux-${names.deno}-glibc/deno`),
  workerd: join(peers, `@cloudflare/workerd-linux-${names.workerd}/bin/workerd`),
  nginx: "/usr/sbin/nginx",
};
for (const [name, path] of Object.entries(tools)) {
  if (!existsSync(path)) {
    console.error(`bench: ${name} is missing (${path}); \`make bench\` builds and installs it`);
    process.exit(1);
  }
}

const asked = process.argv.slice(2);
const quick = asked.includes("--quick");
const chosen = asked.filter((word) => !word.startsWith("--"));
for (const name of chosen) {
  if (!(name in SCENARIOS)) {
    console.error(`bench: no scenario ${name}; there are ${Object.keys(SCENARIOS).join(", ")}`);
    process.exit(2);
  }
}

const scratch = mkdtempSync(join(tmpdir(), "verge-bench-"));
process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
process.on("SIGINT", () => process.exit(130));

const report = new Report();
const load = quick ? { rounds: 1, seconds: 2 } : { rounds: 5, seconds: 5 };
for (const [name, scenario] of Object.entries(SCENARIOS)) {
  if (chosen.length === 0 || chosen.includes(name)) {
    await scenario({ report, tools, scratch, root, load });
  }
}

if (!quick && chosen.length === 0) {
  const first = async (program, args) => (await run(program, args)).split("\n")[0].trim();
  const versions = [
    await first(tools.verge, ["--version"]),
    await first(tools.deno, ["--version"]),
    await first(tools.workerd, ["--version"]),
    `node ${process.version}`,
    await run("sh", ["-c", `${tools.nginx} -v 2>&1`]).then((text) => text.trim()),
  ];
  report.write(join(root, "docs/performance.md"), versions);
}
