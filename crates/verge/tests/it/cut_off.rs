//! A point of presence that is cut off: it answers every read, refuses or queues writes as its
//! app wants it, and converges after healing.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;

use super::harness::{Answer, Dev, PATIENCE, project, stdout, verge};

/// Three databases: one refuses writes, one holds them for long, one for a moment.
const CONFIG: &str = r#"{ "main": "index.js", "d1_databases": [
    { "binding": "REFUSE", "database_name": "refuse" },
    { "binding": "QUEUE", "database_name": "queue",
      "writes_when_cut_off": "queue", "queue_wait": "2m" },
    { "binding": "SHORT", "database_name": "short",
      "writes_when_cut_off": "queue", "queue_wait": "4s" } ],
  "limits": { "wall_time": "3m" } }"#;

/// `GET /NAME` lists, `POST /NAME?n=1` adds; `catch` answers the error's text.
const APP: &str = "export default { async fetch(request, env) {
    const url = new URL(request.url);
    const db = env[url.pathname.slice(1)];
    if (request.method === 'GET') {
        const { results } = await db.prepare('SELECT n FROM t ORDER BY n').all();
        return Response.json(results.map((row) => row.n));
    }
    try {
        await db.batch([
            db.prepare('CREATE TABLE IF NOT EXISTS t (n)'),
            db.prepare('INSERT INTO t VALUES (?)').bind(Number(url.searchParams.get('n'))),
        ]);
    } catch (error) {
        if (url.searchParams.has('catch')) return new Response(error.message, { status: 418 });
        throw error;
    }
    return new Response('written');
} };";

const DATABASES: [&str; 3] = ["REFUSE", "QUEUE", "SHORT"];

struct World {
    dev: Dev,
    ports: Vec<u16>,
    data: String,
    _app: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let app = project(&[("verge.jsonc", CONFIG), ("index.js", APP)]);
        let flags = ["--port", "0", "--pops", "iad,fra", "--rtt", "iad-fra=10ms"];
        let dev = Dev::with(&[app.path()], &flags);
        let port = |nth| {
            let url = dev.event("place", nth)["url"].as_str().expect("a URL").to_owned();
            url.rsplit(':').next().expect("a port").parse().expect("a number")
        };
        let ports = (0..2).map(port).collect();
        let data = app.path().join(".verge/data").to_str().expect("text").to_owned();
        Self { dev, ports, data, _app: app }
    }

    fn order(&self, words: &[&str]) -> Value {
        let output = verge(&[words, &["--json", "--data", &self.data]].concat());
        assert!(output.status.success(), "{words:?}: {}", stdout(&output));
        serde_json::from_str(&stdout(&output)).expect("JSON")
    }

    async fn ask(&mut self, place: usize, method: Method, path: &str) -> Answer {
        self.dev.port = self.ports[place];
        let json = [("accept", "application/json")];
        self.dev.ask(method, "localhost", path, &json, "").await
    }

    async fn read(&mut self, place: usize, database: &str) -> Value {
        let answer = self.ask(place, Method::GET, &format!("/{database}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    async fn write(&mut self, place: usize, database: &str, n: u32) -> Answer {
        self.ask(place, Method::POST, &format!("/{database}?n={n}")).await
    }

    async fn until<T>(
        &mut self,
        what: &str,
        mut look: impl AsyncFnMut(&mut Self) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            assert!(Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Cuts the link, and waits until both ends have noticed.
    async fn cut(&mut self) {
        self.order(&["link", "cut", "iad", "fra"]);
        self.until("the cut is noticed", async |world| {
            (world.order(&["link", "list"])["links"][0]["connected"] == false).then_some(())
        })
        .await;
    }

    fn waiting(&self, place: usize, database: &str) -> u64 {
        let pops = self.order(&["pop", "list"]);
        let databases = pops["pops"][place]["databases"].as_array().expect("a list").clone();
        let found = databases.iter().find(|one| one["dataset"] == format!("sql/{database}"));
        found.expect("the database")["waiting"].as_u64().expect("a number")
    }
}

#[tokio::test]
async fn it_answers_reads_refuses_or_queues_writes_and_converges_after_healing() {
    let mut world = World::start();
    for database in DATABASES {
        assert_eq!(world.write(1, database, 1).await.status, 200);
        world
            .until("the first write arrives", async |world| {
                let answer = world.ask(1, Method::GET, &format!("/{database}")).await;
                (answer.status == 200 && answer.json() == serde_json::json!([1])).then_some(())
            })
            .await;
    }
    world.cut().await;

    // The primary goes on, the place that is cut off answers with what it has.
    for database in DATABASES {
        assert_eq!(world.write(0, database, 2).await.status, 200);
        assert_eq!(world.read(0, database).await, serde_json::json!([1, 2]));
        assert_eq!(world.read(1, database).await, serde_json::json!([1]));
    }

    // Refused: a page that says so, and when to try again; an app may catch D1's error.
    let refused = world.write(1, "REFUSE", 3).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "{refused:?}");
    assert!(refused.body.contains("database_unavailable"), "{refused:?}");
    let caught = world.ask(1, Method::POST, "/REFUSE?n=3&catch").await;
    assert_eq!(
        (caught.status, caught.body.as_str()),
        (418, "D1_ERROR: the database's primary cannot be reached from here; nothing was written")
    );

    // Queued for a moment, then refused.
    let caught = world.ask(1, Method::POST, "/SHORT?n=3&catch").await;
    assert_eq!(caught.status, 418, "{caught:?}");
    assert!(caught.body.contains("could not be reached from here within 4 s"), "{caught:?}");
    assert!(caught.body.contains("nothing was written"), "{caught:?}");

    // Queued: held until the link is healed, then written once each.
    let port = world.ports[1];
    let writers: Vec<_> = (10..15)
        .map(|n| tokio::spawn(async move { post(port, &format!("/QUEUE?n={n}")).await }))
        .collect();
    world
        .until("all writes wait", async |world| (world.waiting(1, "queue") == 5).then_some(()))
        .await;
    assert_eq!(world.read(1, "QUEUE").await, serde_json::json!([1]), "reads do not wait");
    assert_eq!(world.read(0, "QUEUE").await, serde_json::json!([1, 2]));
    world.order(&["link", "heal", "iad", "fra"]);
    for writer in writers {
        assert_eq!(writer.await.expect("an answer"), 200);
    }
    assert_eq!(world.waiting(1, "queue"), 0);
    let all = serde_json::json!([1, 2, 10, 11, 12, 13, 14]);
    assert_eq!(world.read(0, "QUEUE").await, all, "each once");

    // What was refused was not written, and both places come to the same.
    for (database, all) in [
        ("REFUSE", serde_json::json!([1, 2])),
        ("SHORT", serde_json::json!([1, 2])),
        ("QUEUE", all),
    ] {
        assert_eq!(world.read(0, database).await, all, "{database}");
        world
            .until("both places have the same", async |world| {
                (world.read(1, database).await == all).then_some(())
            })
            .await;
    }
    assert_eq!(world.write(1, "REFUSE", 4).await.status, 200, "writes pass again");
}

/// The status of one request on a connection of its own.
async fn post(port: u16, path: &str) -> u16 {
    use http_body_util::BodyExt;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
            .await
            .expect("HTTP");
    tokio::spawn(connection);
    let request = http::Request::post(path)
        .header("host", format!("localhost:{port}"))
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    response.into_body().collect().await.expect("a whole body");
    status
}
