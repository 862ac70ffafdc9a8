// The `Deno` that Deno's Node polyfills are written against. It is no global: the snapshot's
// build gives it to their sources as a constant. It has what they read when they load and
// what answers harmlessly; anything else throws by name.

import { internals } from "ext:core/mod.js";
import { appEnvironment } from "ext:verge_engine/deno_namespace.js";
import { errors } from "ext:verge_engine/errors.js";

const BUILD = {
  os: "linux",
  arch: "x86_64",
  vendor: "unknown",
  env: "gnu",
  target: "x86_64-unknown-linux-gnu",
  standalone: false,
};

const there = {
  __proto__: null,
  args: [],
  build: BUILD,
  cwd: () => "/",
  env: appEnvironment,
  errors,
  execPath: () => "/verge",
  gid: () => 0,
  isatty: () => false,
  mainModule: "file:///app/",
  memoryUsage: () => ({ rss: 0, heapTotal: 0, heapUsed: 0, external: 0 }),
  noColor: true,
  osRelease: () => "",
  osUptime: () => 0,
  pid: 1,
  ppid: 0,
  stderr: { isTerminal: () => false },
  stdin: { isTerminal: () => false },
  stdout: { isTerminal: () => false },
  uid: () => 0,
  version: { deno: "2.9.0", v8: "15.0", typescript: "" },
};

const FEATURE_TESTS = { __proto__: null, internal: true, test: true, bench: true, customInspect: true };

internals.hostDeno = new Proxy(there, {
  __proto__: null,
  get(target, name) {
    if (name in target || typeof name === "symbol" || FEATURE_TESTS[name]) return target[name];
    return () => {
      throw new errors.NotSupported(
        `${name}() is not available: apps have no file system, processes or listening sockets of their own`,
      );
    };
  },
});
