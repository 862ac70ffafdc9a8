// Replication between two places of one process, and many databases on one node.

import { run } from "../harness/processes.mjs";
import { ms, thousands } from "../harness/report.mjs";

export async function replication({ report, tools, load }) {
  const [seconds, away, databases] = load.rounds > 1 ? [30, 100_000, 10_000] : [5, 5000, 500];
  report.section(
    "Replication",
    `Two places, a link on loopback (\`target/release/replication ${seconds} 1000 ${away}\`): from a commit's acknowledgement at the primary to its being readable at the replica, at 1,000 writes/s; then the replica misses ${thousands(away)} transactions and comes back. Then ${thousands(databases)} databases on one node, each written and, after a new start, read once (\`target/release/databases ${databases}\`).`,
  );
  const seen = JSON.parse(await run(tools.replication, [seconds, 1000, away].map(String)));
  const { p50, p99, max } = seen.visible_ms;
  report.goal("visible at the replica, p50 at most 3 ms", ms(p50), p50 <= 3);
  report.goal("visible at the replica, p99 at most 15 ms", ms(p99), p99 <= 15);
  report.goal("the slowest", ms(max), null);
  const { before, after } = seen.resident_mb;
  report.goal("resident memory before and after", `${before} and ${after} MB`, null);
  const rate = seen.durable_writes_per_s;
  report.goal("64 clients' durable inserts, without HTTP: at least 5,000/s", `${thousands(rate)}/s`, rate >= 5000);
  report.goal(
    `${thousands(away)} transactions later it catches up, and answers meanwhile`,
    `${ms(seen.caught_up_ms)}, ${thousands(seen.reads_meanwhile)} reads, the slowest ${ms(seen.slowest_read_ms)}`,
    seen.equal,
  );
  const many = JSON.parse(await run(tools.databases, [String(databases)]));
  report.goal("resident memory under 1 GB", `${many.resident_mb} MB`, many.resident_mb < 1024);
  report.goal("the node starts in under 5 s", ms(many.start_ms), many.start_ms < 5000);
  report.goal("a database's first read", `${many.first_read_us_each.toFixed(0)} µs`, null);
}
