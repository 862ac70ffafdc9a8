//! Node's sockets, and what of Node's sockets there is not.

use serde_json::json;

use super::places::{Inside, Names};
use super::spellings::NAMES;
use super::{Outcomes, ask, prober};
use crate::harness::World;

const HOSTS: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "::1",
    "::",
    "0:0:0:0:0:0:0:1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "fe80::1",
    "fe80::1%lo",
    "::1%lo",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "ip6-localhost",
    "loopback.test",
    "mapped.test",
    "private.test",
    "nowhere.test",
    "10.0.0.1",
    "169.254.169.254",
    "fd00:ec2::254",
    "192.168.0.1",
];

fn world() -> World {
    World::with(|config| config.resolver = Some(Names::new(NAMES).resolver()))
}

#[tokio::test]
async fn node_sockets_reach_nothing_inside() {
    let inside = Inside::open().await;
    let world = world();
    let app = prober(
        &world,
        r#"
        import net from "node:net"; import tls from "node:tls"; import http from "node:http";
        import https from "node:https";
        const ended = (label, start) => new Promise((done) => {
            const timer = setTimeout(() => done([label, "timed out"]), 3000);
            const tell = (what) => { clearTimeout(timer); done([label, what]); };
            try {
                const emitter = start(tell);
                emitter.on("error", (error) => tell(`error: ${error.code} ${error.message}`));
            } catch (error) { tell(`error: ${error.message}`); }
        });
        const run = async ({ port, hosts }) => {
            const all = [];
            for (const host of hosts) {
                all.push(await ended(`net ${host}`, (tell) => net.connect(port, host, () => tell("connected"))));
                all.push(await ended(`net one family ${host}`, (tell) => net.connect({ port, host, autoSelectFamily: false }, () => tell("connected"))));
                all.push(await ended(`tls ${host}`, (tell) => tls.connect({ port, host, rejectUnauthorized: false }, () => tell("connected"))));
                all.push(await ended(`http ${host}`, (tell) => http.get({ host, port }, () => tell("answered"))));
                all.push(await ended(`https ${host}`, (tell) => https.get({ host, port }, () => tell("answered"))));
            }
            // A lookup of the app's own leads where the app says, and no further.
            const one = (hostname, options, callback) => callback(null, "127.0.0.1", 4);
            const many = (hostname, options, callback) => options.all
                ? callback(null, [{ address: "127.0.0.1", family: 4 }, { address: "::1", family: 6 }])
                : callback(null, "127.0.0.1", 4);
            for (const lookup of [one, many]) {
                all.push(await ended(`own lookup`, (tell) => net.connect({ port, host: "public.example", lookup, autoSelectFamily: lookup === many }, () => tell("connected"))));
                all.push(await ended(`own lookup, http`, (tell) => http.get({ port, host: "public.example", lookup }, () => tell("answered"))));
            }
            return all;
        };"#,
    );
    let ask_for = json!({ "port": inside.port, "hosts": HOSTS });
    let outcomes: Outcomes = ask(&app, &ask_for).await;
    assert!(outcomes.len() > HOSTS.len() * 5, "{}", outcomes.len());
    for (tried, outcome) in &outcomes {
        assert!(outcome.starts_with("error: "), "{tried}: {outcome}");
    }
    let literal = outcomes.iter().find(|(tried, _)| tried == "net 127.0.0.1").unwrap();
    assert!(literal.1.contains("outbound connection refused: `127.0.0.1:"), "{literal:?}");
    // Node's error of a look-up has no words; the log has them.
    assert!(world.logs.text().contains("outbound connection refused: `loopback.test:"));
    assert_eq!(inside.reached().await, 0);
}

#[tokio::test]
async fn names_that_lead_inside_are_not_told() {
    let world = world();
    let app = prober(
        &world,
        r#"
        import dns from "node:dns";
        const run = async (names) => {
            const all = [];
            for (const name of names) {
                for (const options of [{}, { all: true }, { family: 4 }, { family: 6 }]) {
                    const outcome = await dns.promises.lookup(name, options).then((a) => JSON.stringify(a), (e) => "error: " + e.message);
                    all.push([name, outcome]);
                }
                const resolver = new dns.promises.Resolver({ timeout: 500, tries: 1 });
                resolver.setServers(["127.0.0.1"]);
                all.push([name, await resolver.resolve4(name).then((a) => JSON.stringify(a), (e) => "error: " + e.message)]);
            }
            return all;
        };"#,
    );
    let names =
        ["loopback.test", "mapped.test", "private.test", "localhost", "metadata.google.internal"];
    let outcomes: Outcomes = ask(&app, &json!(names)).await;
    for (name, outcome) in &outcomes {
        assert!(outcome.starts_with("error: "), "{name}: {outcome}");
    }
}

#[tokio::test]
async fn there_are_no_listening_udp_or_unix_sockets_and_no_foreign_descriptors() {
    let inside = Inside::open().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inside.sock");
    let unix = tokio::net::UnixListener::bind(&path).unwrap();
    // Descriptors of this process that an app may try to take over.
    let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&ours);
    let world = world();
    let app = prober(
        &world,
        r#"
        import net from "node:net"; import dgram from "node:dgram"; import tty from "node:tty"; import fs from "node:fs";
        import http from "node:http";
        const ended = (label, start) => new Promise((done) => {
            const timer = setTimeout(() => done([label, "error: silence"]), 500);
            const tell = (what) => { clearTimeout(timer); done([label, what]); };
            try {
                const emitter = start(tell);
                emitter?.on?.("error", (error) => tell(`error: ${error.code} ${error.message}`));
            } catch (error) { tell(`error: ${error.message}`); }
        });
        const run = async ({ port, path, fd }) => [
            await ended("unix", (tell) => net.connect({ path }, () => tell("connected"))),
            await ended("unix http", (tell) => http.get({ socketPath: path }, () => tell("answered"))),
            await ended("listen", (tell) => net.createServer().listen(0, () => tell("listening"))),
            await ended("listen loopback", (tell) => net.createServer().listen(0, "127.0.0.1", () => tell("listening"))),
            await ended("listen unix", (tell) => net.createServer().listen(path + "2", () => tell("listening"))),
            await ended("http server", (tell) => http.createServer().listen(0, () => tell("listening"))),
            await ended("udp send", (tell) => { const s = dgram.createSocket("udp4"); s.send("x", port, "127.0.0.1", (e) => tell(e ? `error: ${e.message}` : "sent")); return s; }),
            await ended("udp bind", (tell) => { const s = dgram.createSocket("udp4"); s.bind(0, () => tell("bound")); return s; }),
            await ended("socket of a descriptor", (tell) => { const s = new net.Socket({ fd, readable: true, writable: true }); s.write("stolen", (e) => tell(e ? `error: ${e.message}` : "written")); return s; }),
            await ended("server of a descriptor", (tell) => net.createServer().listen({ fd }, () => tell("listening"))),
            await ended("terminal", (tell) => { const s = new tty.WriteStream(fd); s.write("stolen"); tell("written"); return s; }),
            await ended("file write", (tell) => { fs.writeSync(fd, "stolen"); tell("written"); }),
            await ended("file read", (tell) => { fs.readSync(fd, new Uint8Array(1)); tell("read"); }),
            await ended("standard output", (tell) => { fs.writeSync(1, ""); tell("written"); }),
            await ended("file by descriptor", (tell) => { const s = fs.createWriteStream("", { fd }); s.write("stolen", (e) => tell(e ? `error: ${e.message}` : "written")); return s; }),
        ];"#,
    );
    let ask_for = json!({ "port": inside.port, "path": path, "fd": descriptor });
    let outcomes: Outcomes = ask(&app, &ask_for).await;
    let mut stolen = Vec::new();
    let _ = std::io::Read::read_to_end(&mut theirs, &mut stolen);
    assert_eq!(String::from_utf8_lossy(&stolen), "", "{outcomes:?}");
    for (tried, outcome) in &outcomes {
        assert!(outcome.starts_with("error: "), "{tried}: {outcome}");
    }
    let came = tokio::time::timeout(std::time::Duration::from_millis(50), unix.accept()).await;
    assert!(came.is_err(), "the Unix socket was reached");
    assert_eq!(inside.reached().await, 0);
}

#[tokio::test]
async fn denos_own_sockets_are_not_there() {
    let inside = Inside::open().await;
    let world = world();
    let app = prober(
        &world,
        r#"
        const serve = () => Deno.serve;
        const run = async (port) => {
            const all = [];
            for (const name of ["connect", "connectTls", "connectQuic", "listen", "listenDatagram", "createHttpClient", "resolveDns", "startTls"]) {
                try { await Deno[name]({ port, hostname: "127.0.0.1" }); all.push([name, "there"]); }
                catch (error) { all.push([name, `error: ${error.message}`]); }
            }
            return all;
        };"#,
    );
    let outcomes: Outcomes = ask(&app, &json!(inside.port)).await;
    for (name, outcome) in &outcomes {
        assert!(outcome.contains(&format!("Deno.{name} is not available")), "{name}: {outcome}");
    }
    assert_eq!(inside.reached().await, 0);
}
