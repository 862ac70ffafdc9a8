//! `verge dev --pops`: an app and its data at several points of presence.

use http::Method;

use super::harness::{Answer, Dev, copy_of_example, project, write};

/// So far apart that an answer from a copy that is behind would show.
const FAR: [&str; 6] =
    ["--port", "0", "--pops", "iad,fra,nrt", "--rtt", "iad-fra=1s,iad-nrt=1s,fra-nrt=1s"];
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// A client that hops from place to place and keeps its cookies, as a browser does.
struct Client {
    dev: Dev,
    ports: Vec<u16>,
    cookies: Vec<(String, String)>,
}

impl Client {
    fn of(dev: Dev) -> Self {
        let ports = (0..3).map(|nth| {
            let url = dev.event("place", nth)["url"].as_str().expect("a URL").to_owned();
            url.rsplit(':').next().expect("a port").parse().expect("a number")
        });
        let ports = ports.collect();
        Self { dev, ports, cookies: Vec::new() }
    }

    async fn ask(&mut self, place: usize, method: Method, path: &str, body: &str) -> Answer {
        self.dev.port = self.ports[place];
        let cookie: Vec<_> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let cookie = cookie.join("; ");
        let mut headers = vec![FORM];
        if !cookie.is_empty() {
            headers.push(("cookie", &cookie));
        }
        let answer = self.dev.ask(method, "localhost", path, &headers, body).await;
        for set in answer.headers.get_all("set-cookie") {
            let text = set.to_str().expect("text");
            let (name, value) =
                text.split(';').next().unwrap_or(text).split_once('=').expect("one");
            self.cookies.retain(|(known, _)| known != name);
            if !text.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    async fn sign(&mut self, place: usize, name: &str) {
        let answer = self.ask(place, Method::POST, "/sign", &format!("name={name}")).await;
        assert_eq!(answer.status, 303, "{answer:?}");
    }

    /// Whether the newest entry that a place shows is `name`.
    async fn finds(&mut self, place: usize, name: &str) -> bool {
        let answer = self.ask(place, Method::GET, "/entries", "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()[0] == name
    }
}

#[tokio::test]
async fn a_client_that_hops_never_misses_its_own_entry() {
    let book = copy_of_example("guestbook");
    let mut client = Client::of(Dev::with(&[book.path()], &FAR));
    for round in 0..6 {
        let name = format!("guest{round}");
        client.sign(round % 3, &name).await;
        for hop in [1, 2] {
            assert!(client.finds((round + hop) % 3, &name).await, "round {round}, hop {hop}");
        }
    }
}

#[tokio::test]
async fn without_read_your_writes_it_does_miss_it() {
    let book = copy_of_example("guestbook");
    let config = std::fs::read_to_string(book.path().join("wrangler.jsonc")).expect("read");
    let config = config.replacen('{', "{ \"read_your_writes\": false,", 1);
    write(&book.path().join("verge.jsonc"), &config);
    let mut client = Client::of(Dev::with(&[book.path()], &FAR));
    client.sign(0, "first").await;
    let mut missed = 0;
    // The copy is half a second behind; a slow machine may take longer than that to ask.
    for round in 0..10 {
        let name = format!("guest{round}");
        client.sign(0, &name).await;
        missed += usize::from(!client.finds(2, &name).await);
    }
    assert!(client.cookies.is_empty(), "nothing is handed to the client: {:?}", client.cookies);
    assert!(missed > 0, "every entry was there at once, so the other test shows nothing");
}

#[tokio::test]
async fn data_is_there_after_a_restart() {
    let app = project(&[
        (
            "verge.jsonc",
            r#"{ "main": "index.js", "d1_databases": [{ "binding": "DB", "database_name": "kept" }] }"#,
        ),
        (
            "index.js",
            "export default { async fetch(request, { DB }) {
                await DB.exec('CREATE TABLE IF NOT EXISTS n (v)');
                await DB.prepare('INSERT INTO n VALUES (1)').run();
                return Response.json(await DB.prepare('SELECT count(*) AS n FROM n').first('n'));
            } };",
        ),
    ]);
    for started in 1..=2 {
        let mut dev = Dev::start(&[app.path()]);
        assert_eq!(dev.get("/").await.body, started.to_string());
        dev.signal(libc::SIGTERM);
        assert!(dev.wait().success());
    }
    assert!(app.path().join(".verge/data").is_dir());
}
