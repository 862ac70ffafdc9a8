// A static file beside nginx.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { compare } from "../harness/load.mjs";
import { freePort, serve } from "../harness/processes.mjs";
import { ms, thousands, times } from "../harness/report.mjs";

const config = (port, folder) => `worker_processes 2;
daemon off;
error_log stderr crit;
pid nginx-static.pid;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
  types { text/css css; text/html html; }
  server { listen 127.0.0.1:${port}; root ${folder}; }
}
`;

export async function files({ report, tools, scratch, root, load }) {
  report.section(
    "A static file",
    "`style.css` of the static example, from `verge dev` and from nginx with two workers, 32 connections.",
  );
  const app = join(root, "examples/static");
  const servers = [];
  try {
    const ports = await Promise.all([1, 2].map(freePort));
    const url = (port) => `http://127.0.0.1:${port}/style.css`;
    servers.push(
      await serve("verge", tools.verge, ["dev", app, "--quiet", "--port", ports[0]], { url: url(ports[0]) }),
    );
    const file = join(scratch, "static.conf");
    writeFileSync(file, config(ports[1], join(app, "public")));
    const nginx = ["-e", "stderr", "-p", scratch, "-c", file];
    servers.push(await serve("nginx", tools.nginx, nginx, { url: url(ports[1]) }));
    const results = await compare(servers, load);
    report.table(
      ["server", "requests/s", "p50", "p99"],
      [...results].map(([name, { rps, p50, p99 }]) => [name, thousands(rps), ms(p50), ms(p99)]),
    );
    report.goal("beside nginx", times(results.get("verge").rps / results.get("nginx").rps), null);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}
