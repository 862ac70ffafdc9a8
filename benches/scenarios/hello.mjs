// A handler that answers "Hello World", the same source for every runtime.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { compare } from "../harness/load.mjs";
import { freePort, serve } from "../harness/processes.mjs";
import { ms, thousands, times } from "../harness/report.mjs";

const WORKER = `export default { fetch() { return new Response("Hello World") } };\n`;

const workerdConfig = (port) => `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .worker)],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);
const worker :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "worker.mjs")],
  compatibilityDate = "2026-11-01",
);
`;

const nodeServer = (port) => `import { createServer } from "node:http";
createServer((request, response) => {
  response.setHeader("content-type", "text/plain;charset=UTF-8");
  response.end("Hello World");
}).listen(${port}, "127.0.0.1");
`;

const nginxConfig = (port) => `worker_processes 2;
daemon off;
error_log stderr crit;
pid nginx.pid;
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_requests 100000000;
  server {
    listen 127.0.0.1:${port};
    location / { default_type text/plain; return 200 "Hello World"; }
  }
}
`;

export async function hello({ report, tools, scratch, load }) {
  report.section(
    "A trivial handler",
    "`return new Response(\"Hello World\")` over HTTP/1.1 with keep-alive, 32 connections. Verge runs one gateway thread and one isolate.",
  );
  const file = (name, text) => {
    writeFileSync(join(scratch, name), text);
    return join(scratch, name);
  };
  const worker = file("worker.mjs", WORKER);
  const servers = [];
  const add = async (name, program, args, port, options = {}) =>
    servers.push(await serve(name, program, args, { url: `http://127.0.0.1:${port}/`, ...options }));
  try {
    const ports = await Promise.all([1, 2, 3, 4, 5].map(freePort));
    await add("verge", tools.serve, [worker, ports[0]], ports[0]);
    file("config.capnp", workerdConfig(ports[1]));
    await add("workerd", tools.workerd, ["serve", "config.capnp"], ports[1], { cwd: scratch });
    await add("deno", tools.deno, ["serve", "--host", "127.0.0.1", "--port", ports[2], worker], ports[2]);
    await add("node", process.execPath, [file("server.mjs", nodeServer(ports[3]))], ports[3]);
    const config = file("nginx.conf", nginxConfig(ports[4]));
    await add("nginx", tools.nginx, ["-e", "stderr", "-p", scratch, "-c", config], ports[4]);

    const results = await compare(servers, load);
    const verge = results.get("verge");
    report.table(
      ["server", "requests/s", "p50", "p99", "verge is"],
      [...results].map(([name, { rps, p50, p99 }]) => [
        name,
        thousands(rps),
        ms(p50),
        ms(p99),
        name === "verge" ? "" : times(verge.rps / rps),
      ]),
    );
    const beside = (name) => verge.rps / results.get(name).rps;
    report.goal("at least 4x workerd (goal 5x)", times(beside("workerd")), beside("workerd") >= 4);
    report.goal("at least 0.7x `deno serve` (goal 1x)", times(beside("deno")), beside("deno") >= 0.7);
    report.goal("p99 under 5 ms", ms(verge.p99), verge.p99 < 5);
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}
