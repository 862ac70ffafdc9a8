// D1 as miniflare runs it: `node miniflare.mjs WORKER PORT FOLDER`.

import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(new URL("../../peers/package.json", import.meta.url));
const { Miniflare } = require("miniflare");

const [worker, port, folder] = process.argv.slice(2);
const miniflare = new Miniflare({
  modules: true,
  scriptPath: worker,
  host: "127.0.0.1",
  port: Number(port),
  compatibilityDate: "2026-07-01",
  d1Databases: ["DB"],
  d1Persist: join(folder, "d1"),
});
await miniflare.ready;
console.log("ready");
