// What was measured, as lines for the terminal and as docs/performance.md.

import { readFileSync, writeFileSync } from "node:fs";
import os from "node:os";

/** What people add by hand stands below this heading and is kept. */
const NOTES = "## Notes";

export class Report {
  #sections = [];
  #missed = 0;

  section(title, text) {
    this.#sections.push({ title, text, table: [], goals: [] });
    console.log(`\n${title}`);
  }

  get #last() {
    return this.#sections.at(-1);
  }

  table(header, rows) {
    this.#last.table = [header, ...rows];
    for (const row of rows) console.log(`  ${row.join("  ")}`);
  }

  /** A goal and what came out; `met` is null where there is none to meet. */
  goal(text, measured, met) {
    if (met === false) this.#missed += 1;
    this.#last.goals.push({ text, measured, met });
    console.log(`  ${{ true: "met", false: "MISSED" }[met] ?? "-"}: ${text}: ${measured}`);
  }

  write(file, versions) {
    let notes = "";
    try {
      const old = readFileSync(file, "utf8");
      if (old.includes(NOTES)) notes = old.slice(old.indexOf(NOTES));
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
    writeFileSync(file, this.#markdown(versions) + notes);
    console.log(`\n${this.#missed} goals missed; written to ${file}`);
  }

  #markdown(versions) {
    const cpus = os.cpus();
    const memory = Math.round(os.totalmem() / 2 ** 30);
    const lines = [
      "# Performance",
      "",
      "Written by `make bench`: peers run beside Verge on the same machine, in turns within the same run; what counts is the ratio. Medians over the rounds.",
      "",
      `Machine: ${cpus.length} cores (${cpus[0]?.model.trim()}), ${memory} GiB, Linux ${os.release()}. ` +
      `Versions: ${versions.join(", ")}. Load: wrk with one thread, on the same two cores as the servers.`,
      "",
    ];
    for (const { title, text, table, goals } of this.#sections) {
      lines.push(`## ${title}`, "", text, "");
      if (table.length > 0) {
        const [header, ...rows] = table;
        lines.push(`| ${header.join(" | ")} |`, `|${header.map(() => " --- |").join("")}`);
        for (const row of rows) lines.push(`| ${row.join(" | ")} |`);
        lines.push("");
      }
      for (const { text, measured, met } of goals) {
        const mark = met === null ? "" : met ? " (met)" : " (**missed**)";
        lines.push(`- ${text}: ${measured}${mark}`);
      }
      if (goals.length > 0) lines.push("");
    }
    return lines.join("\n") + "\n";
  }
}

export const times = (ratio) => `${ratio.toFixed(2)}x`;
export const ms = (value) => `${value.toFixed(value < 10 ? 2 : 0)} ms`;
export const thousands = (value) => Math.round(value).toLocaleString("en-US");
