// What a neighbour feels of an app that runs into its limits.

import { run } from "../harness/processes.mjs";
import { ms, thousands, times } from "../harness/report.mjs";

export async function limits({ report, tools, load }) {
  const seconds = String(load.seconds);
  report.section(
    "A neighbour that runs into its limits",
    `One app runs into a limit again and again; another, in the same process, is under a constant load of 4 connections (\`target/release/limits ${seconds}\`). Its p99 before, and while it happens.`,
  );
  const lines = (await run(tools.limits, [seconds])).trim().split("\n");
  const rounds = JSON.parse(lines.at(-1));
  report.table(
    ["limit", "trips", "requests beside", "lost", "p99 before", "p99 during", "ratio"],
    rounds.map((round) => [
      round.limit,
      thousands(round.trips),
      thousands(round.requests),
      thousands(round.lost),
      ms(round.before_p99_us / 1000),
      ms(round.during_p99_us / 1000),
      times(round.ratio),
    ]),
  );
  const lost = rounds.reduce((sum, round) => sum + round.lost, 0);
  const worst = Math.max(...rounds.map((round) => round.ratio));
  report.goal("the neighbour loses no request", thousands(lost), lost === 0);
  report.goal("its p99 does not double", times(worst), worst < 2);
}
