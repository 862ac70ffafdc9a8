//! The world on a laptop: links and points of presence of `verge dev --pops`, changed from
//! outside while it runs.

use http::Method;
use serde_json::Value;

use super::harness::{Answer, Dev, PATIENCE, command, copy_of_example, stderr, stdout, verge};

const FLEET: [&str; 6] =
    ["--port", "0", "--pops", "iad,fra,nrt", "--rtt", "iad-fra=10ms,iad-nrt=10ms,fra-nrt=10ms"];
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

struct World {
    dev: Dev,
    ports: Vec<u16>,
    data: String,
    book: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let book = copy_of_example("guestbook");
        let dev = Dev::with(&[book.path()], &FLEET);
        let port = |nth| {
            let url = dev.event("place", nth)["url"].as_str().expect("a URL").to_owned();
            url.rsplit(':').next().expect("a port").parse().expect("a number")
        };
        let ports = (0..3).map(port).collect();
        let data = book.path().join(".verge/data").to_str().expect("text").to_owned();
        // It listens for orders before it says that it is ready.
        Self { dev, ports, data, book }
    }

    fn order(&self, words: &[&str]) -> Value {
        let words = [words, &["--json", "--data", &self.data]].concat();
        let output = verge(&words);
        assert!(output.status.success(), "{words:?}: {}", stdout(&output));
        serde_json::from_str(&stdout(&output)).expect("JSON")
    }

    fn refused(&self, words: &[&str]) -> String {
        let output = verge(&[words, &["--data", &self.data]].concat());
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        stderr(&output)
    }

    async fn ask(&mut self, place: usize, method: Method, path: &str, body: &str) -> Answer {
        self.dev.port = self.ports[place];
        self.dev.ask(method, "localhost", path, &[FORM], body).await
    }

    async fn sign(&mut self, place: usize, name: &str) -> Answer {
        self.ask(place, Method::POST, "/sign", &format!("name={name}")).await
    }

    /// Waits until a place shows this entry as its newest.
    async fn shows(&mut self, place: usize, name: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(place, Method::GET, "/entries", "").await;
            if answer.status == 200 && answer.json()[0] == name {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{place} never shows {name}: {answer:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_killed_place_refuses_connections_and_catches_up_when_it_is_started() {
    let mut world = World::start();
    assert_eq!(world.sign(0, "before").await.status, 303);
    world.shows(1, "before").await;
    assert_eq!(world.order(&["pop", "kill", "fra"])["changed"], true);
    assert_eq!(world.order(&["pop", "kill", "fra"])["changed"], false, "it is down already");
    let project = world.book.path().to_str().expect("text").to_owned();
    let lag = world.order(&["db", "lag", "--config", &project]);
    assert_eq!(lag["not_running"], serde_json::json!(["fra"]), "{lag}");
    let refused = tokio::net::TcpStream::connect(("127.0.0.1", world.ports[1])).await;
    assert!(refused.is_err(), "its port is closed");
    assert_eq!(world.dev.event("pop", 0)["up"], false);
    // The others go on.
    assert_eq!(world.sign(0, "meanwhile").await.status, 303);
    world.shows(2, "meanwhile").await;
    assert_eq!(world.order(&["pop", "start", "fra"])["changed"], true);
    assert_eq!(world.dev.event("pop", 1)["up"], true);
    world.shows(1, "meanwhile").await;
    assert_eq!(world.sign(1, "after").await.status, 303);
    for place in 0..3 {
        world.shows(place, "after").await;
    }
    let pops = world.order(&["pop", "list"]);
    assert!(pops["pops"].as_array().expect("a list").iter().all(|pop| pop["up"] == true));
    assert_eq!(pops["pops"][0]["databases"][0]["dataset"], "sql/guestbook");
}

#[tokio::test]
async fn another_place_takes_over_from_a_primary_that_is_killed() {
    let mut world = World::start();
    assert_eq!(world.sign(0, "before").await.status, 303);
    for place in [1, 2] {
        world.shows(place, "before").await;
    }
    world.order(&["pop", "kill", "iad"]);
    // Writes are refused until the lease has run out and another was elected.
    let deadline = std::time::Instant::now() + PATIENCE;
    while world.sign(1, "after").await.status != 303 {
        assert!(std::time::Instant::now() < deadline, "nobody took over");
    }
    world.shows(2, "after").await;
    world.order(&["pop", "start", "iad"]);
    world.shows(0, "after").await;
}

/// One link of three is cut: what the primary takes arrives all the same, by way of the third.
#[tokio::test]
async fn a_place_cut_off_from_the_primary_alone_follows_by_way_of_another() {
    let mut world = World::start();
    assert_eq!(world.sign(0, "before").await.status, 303);
    for place in [1, 2] {
        world.shows(place, "before").await;
    }
    world.order(&["link", "cut", "iad", "nrt"]);
    let project = world.book.path().to_str().expect("text").to_owned();
    let of_nrt = |world: &World| {
        let lag = world.order(&["db", "lag", "--config", &project]);
        let copies = lag["copies"].as_array().expect("a list").clone();
        // iad, which is asked for all, cannot reach it; this command can.
        assert_eq!(copies.len(), 3, "{lag}");
        copies.into_iter().find(|copy| copy["pop"] == "nrt").expect("its copy")
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    while of_nrt(&world)["relay"] != "fra-1" {
        assert!(std::time::Instant::now() < deadline, "it never follows fra");
    }
    assert_eq!(world.sign(0, "meanwhile").await.status, 303);
    world.shows(2, "meanwhile").await;
    assert_eq!(of_nrt(&world)["behind"], 0);
    let verified = world.order(&["db", "verify", "--config", &project]);
    let copies = verified["copies"].as_array().expect("a list");
    assert!(copies.len() == 3 && copies.iter().all(|copy| copy["reached"] == true), "{verified}");
    assert_eq!(verified["ok"], true, "a link that is cut is no damage: {verified}");
    world.order(&["link", "heal"]);
    while !of_nrt(&world)["relay"].is_null() {
        assert!(std::time::Instant::now() < deadline, "it never goes back");
    }
    assert_eq!(world.sign(2, "after").await.status, 303);
    world.shows(0, "after").await;
}

#[test]
fn links_are_cut_slowed_and_healed_from_outside() {
    let world = World::start();
    let of = |links: &Value, b: &str| {
        let links = links["links"].as_array().expect("a list");
        links.iter().find(|link| link["a"] == "fra" && link["b"] == b).expect("a link").clone()
    };
    assert_eq!(of(&world.order(&["link", "list"]), "nrt")["rtt_ms"], 10.0);
    assert_eq!(of(&world.order(&["link", "cut", "nrt", "fra"]), "nrt")["cut"], true);
    assert_eq!(world.dev.event("link", 0)["cut"], true);
    let slow = ["link", "slow", "fra", "nrt", "--rtt", "800ms", "--loss", "5%"];
    let slow = of(&world.order(&slow), "nrt");
    assert_eq!((&slow["rtt_ms"], &slow["loss"]), (&800.0.into(), &0.05.into()));
    assert_eq!(slow["cut"], true, "what is not named stays");
    world.order(&["link", "cut", "iad", "fra", "--one-way"]);
    let healed = world.order(&["link", "heal"]);
    for link in healed["links"].as_array().expect("a list") {
        let state = (&link["rtt_ms"], &link["cut"], &link["cut_from"], &link["loss"]);
        assert_eq!(state, (&10.0.into(), &false.into(), &Value::Null, &0.0.into()));
    }
}

#[test]
fn wrong_orders_are_refused_with_what_to_do() {
    let world = World::start();
    for (words, says) in [
        (&["link", "cut", "fra", "nrd"][..], "did you mean `nrt`? there are iad, fra, nrt"),
        (&["link", "cut", "fra", "fra"], "not `fra` and itself"),
        (&["pop", "kill", "mars"], "there are iad, fra, nrt"),
        (&["db", "url", "guestbok"], "did you mean `guestbook`?"),
        (&["db", "token", "guestbok"], "did you mean `guestbook`?"),
        (&["db", "url", "guestbook", "--pop", "nrd"], "did you mean `nrt`?"),
    ] {
        let said = world.refused(words);
        assert!(said.contains(says), "{words:?}: {said}");
    }
    let usage = |words: &[&str]| {
        let output = verge(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        stderr(&output)
    };
    assert!(usage(&["link", "slow", "fra", "nrt"]).contains("--rtt"));
    assert!(usage(&["link", "slow", "fra", "nrt", "--rtt", "800"]).contains("with its unit"));
    assert!(usage(&["link", "heal", "fra"]).contains("<POP>"));
}

#[test]
fn a_binding_names_a_database_and_the_only_one_needs_no_name() {
    let world = World::start();
    let project = world.book.path().to_str().expect("text").to_owned();
    for words in [&["db", "url"][..], &["db", "url", "DB"], &["db", "url", "guestbook"]] {
        let told = world.order(&[words, &["--config", &project]].concat());
        assert_eq!(told["database"], "guestbook", "{words:?}");
    }
    let token = |words: &[&str]| world.order(&[words, &["--config", &project]].concat());
    assert_eq!(token(&["db", "token", "DB"]), token(&["db", "token", "guestbook"]));
}

/// A restore takes away what a client of this place has written.
#[tokio::test]
async fn libsql_clients_go_on_after_what_they_wrote_is_gone() {
    let mut world = World::start();
    world.sign(0, "kept").await;
    world.shows(1, "kept").await;
    let before = world.order(&["db", "info", "guestbook"])["bookmark"].clone();
    let before = before.as_str().expect("text").to_owned();
    let token = world.order(&["db", "token", "guestbook"])["token"].clone();
    let token = format!("Bearer {}", token.as_str().expect("text"));
    let sql = async |world: &mut World, sql: &str| {
        let body = format!(
            r#"{{"requests":[{{"type":"execute","stmt":{{"sql":"{sql}"}}}},{{"type":"close"}}]}}"#
        );
        world.dev.port = world.ports[1];
        let headers = [("content-type", "application/json"), ("authorization", &token)];
        let path = "/__verge/db/guestbook/v3/pipeline";
        let answer = world.dev.ask(Method::POST, "localhost", path, &headers, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    let insert = "INSERT INTO guests (name, place, signed_at) VALUES ('gone', 'fra', '')";
    let wrote = sql(&mut world, insert).await;
    assert!(wrote.contains(r#""affected_row_count":1"#), "{wrote}");
    world.order(&["db", "restore", "guestbook", "--bookmark", &before, "--yes"]);
    world.shows(1, "kept").await;
    for query in ["SELECT count(*) FROM guests", "BEGIN IMMEDIATE"] {
        // One of them is told.
        let told = sql(&mut world, query).await;
        let then = sql(&mut world, query).await;
        assert!(
            then.contains(r#""type":"ok""#) && !then.contains("HISTORY_LOST"),
            "{told}\n{then}"
        );
    }
}

#[test]
fn without_a_verge_dev_the_commands_say_how_to_start_one() {
    let empty = tempfile::tempdir().expect("a folder");
    for words in [&["link", "list"][..], &["pop", "list"], &["db", "url", "book"]] {
        let output = command()
            .args(words)
            .current_dir(empty.path())
            .env("XDG_STATE_HOME", empty.path())
            .output()
            .expect("verge runs");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        let said = stderr(&output);
        assert!(said.contains("no verge dev runs here"), "{said}");
        assert!(said.contains("verge dev --pops iad,fra,nrt"), "{said}");
    }
}

#[tokio::test]
async fn a_browsers_session_outlives_a_restart() {
    let book = copy_of_example("guestbook");
    let session = |answer: &Answer| {
        let set = answer.headers.get("set-cookie").expect("a cookie").to_str().expect("text");
        set.split(';').next().expect("a pair").to_owned()
    };
    let mut dev = Dev::start(&[book.path()]);
    let signed = dev.ask(Method::POST, "localhost", "/sign", &[FORM], "name=one").await;
    let cookie = session(&signed);
    dev.signal(libc::SIGTERM);
    assert!(dev.wait().success());
    let dev = Dev::start(&[book.path()]);
    let headers = [FORM, ("cookie", &*cookie)];
    // A write takes up the cookies that it believes in, and removes them.
    let signed = dev.ask(Method::POST, "localhost", "/sign", &headers, "name=two").await;
    let name = cookie.split('=').next().expect("a name");
    let all: Vec<_> = signed.headers.get_all("set-cookie").iter().collect();
    let removed = |set: &&http::HeaderValue| {
        set.to_str().is_ok_and(|set| set.starts_with(name) && set.contains("Max-Age=0"))
    };
    assert!(all.iter().any(removed), "{all:?}");
}
