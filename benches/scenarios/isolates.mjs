// Cold start, the pool, and what an idle app costs.

import { run } from "../harness/processes.mjs";
import { ms } from "../harness/report.mjs";

export async function isolates({ report, tools }) {
  report.section(
    "Isolates",
    "A new deployment's first byte inside one process (`target/release/isolates 200 200`): with no isolate booted for it, and with one waiting in the pool; then the resident memory that each of 200 apps adds once it has answered and gone idle.",
  );
  const { cold_ms: cold, pooled_ms: pooled, apps, idle_bytes: idle } = JSON.parse(
    await run(tools.isolates, ["200", "200"]),
  );
  const mb = idle / 1e6;
  report.goal("cold start, p50 at most 3 ms", ms(cold.p50), cold.p50 <= 3);
  report.goal("cold start, p99 at most 8 ms", ms(cold.p99), cold.p99 <= 8);
  report.goal("from the pool, p50 at most 1.5 ms", ms(pooled.p50), pooled.p50 <= 1.5);
  report.goal("from the pool, p99", ms(pooled.p99), null);
  report.goal(`an idle app, over ${apps}: at most 4 MB`, `${mb.toFixed(2)} MB`, mb <= 4);
}
