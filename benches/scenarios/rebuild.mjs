// From a saved file to the new answer, through `verge dev` on the Hono example.

import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { median, percentile } from "../harness/load.mjs";
import { freePort, serve } from "../harness/processes.mjs";
import { ms } from "../harness/report.mjs";

const SAVES = 20;

export async function rebuild({ report, tools, scratch, root }) {
  report.section(
    "Saved file to new answer",
    `\`verge dev\` on the Hono example: a source file is written ${SAVES} times, and the app asked until it answers with the new text.`,
  );
  const app = join(scratch, "hono");
  cpSync(join(root, "examples/hono"), app, { recursive: true });
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const server = await serve("verge dev", tools.verge, ["dev", app, "--port", port], { url: origin });
  try {
    const file = join(app, "src/index.ts");
    const source = readFileSync(file, "utf8");
    const times = [];
    for (let n = 0; n < SAVES; n++) {
      // Not in step with the watcher.
      await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 200));
      const saved = performance.now();
      writeFileSync(file, `${source}\napp.get("/bench", (c) => c.text("save ${n}"));\n`);
      for (;;) {
        const answer = await fetch(`${origin}/bench`);
        if ((await answer.text()) === `save ${n}`) break;
        if (performance.now() - saved > 10_000) throw new Error(`save ${n} was not seen in 10 s`);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      times.push(performance.now() - saved);
    }
    const p50 = median(times);
    report.goal("p50 under 300 ms", ms(p50), p50 < 300);
    report.goal("p90", ms(percentile(times, 90)), null);
  } finally {
    await server.stop();
  }
}
