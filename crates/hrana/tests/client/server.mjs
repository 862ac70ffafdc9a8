// Starts the example server on a database of its own and ends it.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const binary = process.env.HRANA_SERVE;
if (!binary) throw new Error("HRANA_SERVE has to name the example server's binary");

export const FULL = "full-token";
export const READ_ONLY = "read-only-token";

export async function serve({ tokens = [FULL, READ_ONLY], env = {} } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "hrana-"));
  const child = spawn(binary, ["0", join(folder, "test.db"), ...tokens], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...env },
  });
  const line = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    child.once("exit", (code) => reject(new Error(`the server ended with ${code}`)));
  });
  const address = line.replace("ready ", "");
  return {
    http: `http://${address}`,
    ws: `ws://${address}`,
    async stop() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
