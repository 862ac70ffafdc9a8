//! Client sessions through real sockets: two points of presence with one primary behind them,
//! browsers with a cookie jar, machines with a header.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use verge_gateway::{Gateway, GatewayConfig, IpPrefix, NoAccessLog};
use verge_telemetry::Metrics;
use verge_types::{
    Blame, Body, BoxFuture, DatasetId, Fault, Position, RequestContext, Resolve, Routed, Service,
    Session, SessionKeys, SessionPolicy, WEBSOCKET_QUEUE, WebSocketAccept, WebSocketMessage,
};

use crate::support::{PATIENCE, read_to_end};

/// One point of presence. `replica` lags behind `primary` until a session asks for more.
#[derive(Clone)]
struct Fake {
    primary: Arc<Mutex<HashMap<String, u64>>>,
    replica: Arc<Mutex<HashMap<String, u64>>>,
}

fn dataset(name: &str) -> DatasetId {
    format!("shop/{name}").parse().unwrap()
}

impl Fake {
    fn write(&self, name: &str, session: &Session) -> (u64, bool) {
        let mut primary = self.primary.lock().unwrap();
        let txid = primary.entry(name.to_owned()).or_default();
        *txid += 1;
        session.timing("db", "primary iad", Duration::from_micros(1200));
        (*txid, session.wrote(&dataset(name), Position::new(1, *txid)))
    }

    /// Serves what the replica has, or what the session asks for.
    fn read(&self, name: &str, session: &Session) -> u64 {
        let mut replica = self.replica.lock().unwrap();
        let held = replica.entry(name.to_owned()).or_default();
        let asked = session.position(&dataset(name)).map_or(0, |p| p.txid);
        let what = if asked > *held { "waited fra" } else { "replica fra lag=3ms" };
        *held = asked.max(*held);
        session.timing("db", what, Duration::from_micros(500));
        session.saw(&dataset(name), Position::new(1, *held));
        *held
    }

    async fn act(self, request: Request<Body>, session: Session) -> Result<Response<Body>, Fault> {
        let path = request.uri().path().to_owned();
        let (word, name) = path[1..].split_once('/').unwrap_or((&path[1..], "a"));
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        let text = match word {
            "write" => self.write(name, &session).0.to_string(),
            "read" => self.read(name, &session).to_string(),
            "sync" => {
                let primary = self.primary.lock().unwrap().clone();
                *self.replica.lock().unwrap() = primary;
                String::new()
            }
            "public" => {
                headers.insert("cache-control", "public, s-maxage=60".parse().unwrap());
                headers.insert("cdn-cache-control", "max-age=60".parse().unwrap());
                headers.insert("server-timing", "app;dur=5".parse().unwrap());
                headers.append("set-cookie", "theme=dark".parse().unwrap());
                headers.append("set-cookie", "__verge_session=the-apps-own".parse().unwrap());
                headers.insert("x-verge-bookmark", "the-apps-own".parse().unwrap());
                self.write(name, &session).0.to_string()
            }
            "idle" => {
                headers.insert("cache-control", "public, s-maxage=60".parse().unwrap());
                format!("{:?}", request.headers())
            }
            "fail" => {
                self.write(name, &session);
                return Err(Fault::new("guest_exception", Blame::Guest, 500, "The app threw"));
            }
            "gone" => {
                session.forget(&dataset(name));
                return Err(Fault::new("bookmark_lost", Blame::Platform, 409, "It is gone"));
            }
            "late" => {
                let (send, mut receive) = mpsc::channel(1);
                tokio::spawn(async move {
                    let _ = send.send(Ok(Frame::data(Bytes::from_static(b"head;")))).await;
                    // The channel holds one: once this is through, the head has left.
                    let _ = send.send(Ok(Frame::data(Bytes::from_static(b"more;")))).await;
                    let told = self.write("a", &session).1;
                    let _ = send.send(Ok(Frame::data(format!("told={told}").into()))).await;
                });
                let frames = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx));
                return Ok(Response::new(Body::stream(StreamBody::new(frames))));
            }
            "ws" => {
                self.write(name, &session);
                return Ok(self.socket(session));
            }
            _ => unreachable!("{word}"),
        };
        *response.body_mut() = Body::from(text);
        Ok(response)
    }

    fn socket(self, session: Session) -> Response<Body> {
        let (to_app, mut inbox) = mpsc::channel(WEBSOCKET_QUEUE);
        let (outbox, from_app) = mpsc::channel(WEBSOCKET_QUEUE);
        tokio::spawn(async move {
            while let Some(WebSocketMessage::Text(text)) = inbox.recv().await {
                let answer = match text.as_str() {
                    "write" => self.write("a", &session).0,
                    _ => self.read("a", &session),
                };
                let _ = outbox.send(WebSocketMessage::Text(answer.to_string())).await;
            }
        });
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.extensions_mut().insert(WebSocketAccept::new(to_app, from_app));
        response
    }
}

impl Service for Fake {
    fn call(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        Box::pin(self.clone().act(request, cx.session))
    }
}

impl Resolve for Fake {
    fn resolve(&self, host: &str) -> Option<Routed> {
        let app = host.strip_suffix(".test")?;
        let keys = || SessionKeys::new([7; 32]);
        let sessions = match app {
            "off" => SessionPolicy::Off,
            "within" => SessionPolicy::RequestOnly,
            "rotated" => SessionPolicy::On(Arc::new(SessionKeys::new([8; 32]))),
            _ => SessionPolicy::On(Arc::new(keys())),
        };
        Some(Routed {
            app: app.parse().unwrap(),
            service: Arc::new(self.clone()),
            max_request_body: 1 << 20,
            max_wall_ms: 0,
            sessions,
        })
    }
}

/// Two points of presence of one fleet.
struct Fleet {
    pops: Vec<(SocketAddr, Metrics)>,
}

impl Fleet {
    async fn new() -> Self {
        let primary = Arc::default();
        let mut pops = Vec::new();
        for _ in 0..2 {
            let mut config = GatewayConfig::default();
            let local = IpPrefix { address: [127, 0, 0, 1].into(), bits: 32 };
            config.trusted_proxies = vec![local];
            let metrics = config.metrics.clone();
            let fake = Fake { primary: Arc::clone(&primary), replica: Arc::default() };
            let gateway = Gateway::bind(config, Arc::new(fake), Arc::new(NoAccessLog));
            let gateway = gateway.await.unwrap();
            pops.push((gateway.local_addr(), metrics));
            tokio::spawn(gateway.serve(std::future::pending()));
        }
        Self { pops }
    }

    /// One GET with these header lines.
    async fn get(&self, pop: usize, host: &str, path: &str, lines: &[String]) -> Answer {
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut stream = TcpStream::connect(self.pops[pop].0).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Answer::parse(&read_to_end(&mut stream).await)
    }

    fn refused(&self, pop: usize, reason: &str) -> bool {
        let line = format!("verge_session_tokens_refused_total{{reason=\"{reason}\"}}");
        self.pops[pop].1.expose().contains(&line)
    }
}

#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_lowercase(), value.to_owned())
        };
        Self { status, headers: lines.map(field).collect(), body: body.to_owned() }
    }

    fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }

    fn one(&self, name: &str) -> &str {
        match self.all(name)[..] {
            [value] => value,
            ref other => panic!("{name}: {other:?} in {self:?}"),
        }
    }

    fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

#[derive(Clone, Default)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    fn lines(&self) -> Vec<String> {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { Vec::new() } else { vec![format!("Cookie: {}", pairs.join("; "))] }
    }

    fn take(&mut self, answer: &Answer) {
        for text in answer.all("set-cookie") {
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            if text.contains("Max-Age=0;") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    async fn get(&mut self, fleet: &Fleet, pop: usize, path: &str) -> Answer {
        let answer = fleet.get(pop, "shop.test", path, &self.lines()).await;
        self.take(&answer);
        answer
    }

    fn ours(&self) -> usize {
        self.0.keys().filter(|name| name.starts_with("__verge_session")).count()
    }
}

#[tokio::test]
async fn a_browser_reads_its_own_write_at_another_pop() {
    let fleet = Fleet::new().await;
    let (mut writer, mut stranger) = (Browser::default(), Browser::default());
    let written = writer.get(&fleet, 0, "/write/a").await;
    let cookie = written.one("set-cookie");
    assert!(cookie.starts_with("__verge_session_"), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_eq!(stranger.get(&fleet, 1, "/read/a").await.body, "0");
    let read = writer.get(&fleet, 1, "/read/a").await;
    assert_eq!(read.body, "1");
    // Nothing new to tell: the cookie says it already.
    assert!(!read.has("set-cookie") && !read.has("cache-control"));
    assert_eq!(read.one("server-timing"), "db;desc=\"waited fra\";dur=0.5");
}

#[tokio::test]
async fn who_only_reads_gets_no_cookie_and_who_wrote_never_goes_back() {
    let fleet = Fleet::new().await;
    let (mut reader, mut writer) = (Browser::default(), Browser::default());
    writer.get(&fleet, 0, "/write/b").await;
    for _ in 0..3 {
        fleet.get(0, "shop.test", "/write/a", &[]).await;
    }
    fleet.get(0, "shop.test", "/sync", &[]).await;
    let read = reader.get(&fleet, 0, "/read/a").await;
    assert_eq!(read.body, "3");
    assert!(!read.has("set-cookie") && !read.has("cache-control"));
    assert_eq!(reader.get(&fleet, 1, "/read/a").await.body, "0");
    // The writer has a session, so that what it reads goes along too.
    let read = writer.get(&fleet, 0, "/read/a").await;
    assert!(read.one("set-cookie").starts_with("__verge_session="));
    assert_eq!(read.one("cache-control"), "private");
    assert!(!writer.get(&fleet, 0, "/read/a").await.has("set-cookie"));
    assert_eq!(writer.get(&fleet, 1, "/read/a").await.body, "3");
    assert_eq!(writer.ours(), 2);
}

#[tokio::test]
async fn answers_that_cross_do_not_undo_each_others_writes() {
    let fleet = Fleet::new().await;
    let mut browser = Browser::default();
    browser.get(&fleet, 0, "/write/b").await;
    let lines = browser.lines();
    let mut answers = Vec::new();
    for path in ["/write/a", "/write/a", "/write/b", "/read/b"] {
        answers.push(fleet.get(0, "shop.test", path, &lines).await);
    }
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let mut browser = browser.clone();
        for at in order {
            browser.take(&answers[at]);
        }
        assert_eq!(browser.get(&fleet, 1, "/read/a").await.body, "2", "{order:?}");
        assert_eq!(browser.get(&fleet, 1, "/read/b").await.body, "2", "{order:?}");
        // The next write takes all cookies up into one.
        browser.get(&fleet, 0, "/write/c").await;
        assert_eq!(browser.0.keys().filter(|name| name.len() > 16).count(), 1, "{order:?}");
        assert_eq!(browser.get(&fleet, 1, "/read/a").await.body, "2", "{order:?}");
    }
}

#[tokio::test]
async fn a_machine_carries_its_bookmark_in_a_header() {
    let fleet = Fleet::new().await;
    let ask = "X-Verge-Session: header".to_owned();
    let written = fleet.get(0, "shop.test", "/write/a", std::slice::from_ref(&ask)).await;
    let first = written.one("x-verge-bookmark").to_owned();
    assert!(!written.has("set-cookie"));
    assert_eq!(written.one("cache-control"), "private");
    let carry = |bookmarks: &[&str]| vec![format!("X-Verge-Bookmark: {}", bookmarks.join(", "))];
    let read = fleet.get(1, "shop.test", "/read/a", &carry(&[&first])).await;
    assert_eq!((read.body.as_str(), read.has("x-verge-bookmark")), ("1", false));
    // Who carries a bookmark gets the next one the same way, and may join several.
    let second = fleet.get(0, "shop.test", "/write/b", &carry(&[&first])).await;
    let second = second.one("x-verge-bookmark").to_owned();
    let third = fleet.get(0, "shop.test", "/write/a", &[ask]).await;
    let third = third.one("x-verge-bookmark").to_owned();
    for (path, body) in [("/read/a", "2"), ("/read/b", "1")] {
        let read = fleet.get(1, "shop.test", path, &carry(&[&third, &second])).await;
        assert_eq!(read.body, body);
    }
    // Machines that read are remembered too.
    fleet.get(1, "shop.test", "/write/c", &[]).await;
    fleet.get(1, "shop.test", "/sync", &[]).await;
    let read = fleet.get(1, "shop.test", "/read/c", &carry(&[&first])).await;
    let read = fleet.get(0, "shop.test", "/read/c", &carry(&[read.one("x-verge-bookmark")])).await;
    assert_eq!(read.body, "1");
}

#[tokio::test]
async fn two_apps_cannot_use_each_others_tokens() {
    let fleet = Fleet::new().await;
    let mut browser = Browser::default();
    browser.get(&fleet, 0, "/write/a").await;
    for host in ["other.test", "rotated.test"] {
        let read = fleet.get(1, host, "/read/a", &browser.lines()).await;
        assert_eq!((read.status, read.body.as_str()), (200, "0"));
        // Not this app's cookie, so not this app's to remove.
        let written = fleet.get(1, host, "/write/a", &browser.lines()).await;
        assert!(!written.all("set-cookie").iter().any(|cookie| cookie.contains("Max-Age=0")));
    }
    assert!(fleet.refused(1, "forged"));
    let ask = ["X-Verge-Session: header".to_owned()];
    let written = fleet.get(0, "shop.test", "/write/a", &ask).await;
    let line = format!("X-Verge-Bookmark: {}", written.one("x-verge-bookmark"));
    let read = fleet.get(1, "other.test", "/read/a", &[line]).await;
    assert_eq!((read.status, read.one("verge-fault")), (400, "bad_bookmark"));
}

#[tokio::test]
async fn what_is_no_token_is_ignored_in_a_cookie_and_refused_in_the_header() {
    let fleet = Fleet::new().await;
    let long = "A".repeat(4000);
    let many = ["AAAA"; 9].join(",");
    for (token, reason) in [("junk!", "malformed"), ("AAAA", "malformed"), (&long, "too_long")] {
        for name in ["__verge_session", "__verge_session_0000beef"] {
            let lines = [format!("Cookie: {name}={token}")];
            let read = fleet.get(0, "shop.test", "/read/a", &lines).await;
            assert_eq!((read.status, read.has("set-cookie")), (200, false), "{name} {token}");
        }
        let lines = [format!("X-Verge-Bookmark: {token}")];
        let read = fleet.get(1, "shop.test", "/read/a", &lines).await;
        assert_eq!((read.status, read.one("verge-fault")), (400, "bad_bookmark"), "{token}");
        assert!(fleet.refused(0, reason) && fleet.refused(1, reason), "{reason}");
    }
    let read = fleet.get(1, "shop.test", "/read/a", &[format!("X-Verge-Bookmark: {many}")]).await;
    assert_eq!(read.status, 400);
    let read = fleet.get(1, "shop.test", "/read/a", &["X-Verge-Bookmark:".to_owned()]).await;
    assert_eq!(read.status, 200);
}

#[tokio::test]
async fn an_answer_with_a_token_is_private_and_the_apps_fields_stay() {
    let fleet = Fleet::new().await;
    let mut browser = Browser::default();
    let answer = browser.get(&fleet, 0, "/public/a").await;
    assert_eq!(answer.one("cache-control"), "private");
    assert!(!answer.has("cdn-cache-control") && !answer.has("x-verge-bookmark"));
    let cookies = answer.all("set-cookie");
    assert!(cookies.len() == 2 && cookies[0] == "theme=dark", "{cookies:?}");
    assert!(!cookies[1].contains("the-apps-own"));
    let timings = answer.all("server-timing");
    assert_eq!(timings, ["app;dur=5", "db;desc=\"primary iad\";dur=1.2"]);
    // Without a database behind it, nothing is touched, for whomever it is.
    let answer = browser.get(&fleet, 0, "/idle").await;
    assert_eq!(answer.one("cache-control"), "public, s-maxage=60");
    assert!(!answer.has("set-cookie") && !answer.has("server-timing"));
    assert!(answer.body.contains("theme=dark") && !answer.body.contains("verge"), "{answer:?}");
    // Over TLS, the cookie never leaves it.
    let lines = ["X-Forwarded-Proto: https".to_owned()];
    let answer = fleet.get(0, "shop.test", "/write/a", &lines).await;
    assert!(answer.one("set-cookie").ends_with("; Secure"));
}

#[tokio::test]
async fn an_app_that_switched_sessions_off_has_none() {
    let fleet = Fleet::new().await;
    for (host, timings) in [("off.test", 0), ("within.test", 1)] {
        let ask = ["X-Verge-Session: header".to_owned()];
        let written = fleet.get(0, host, "/write/a", &ask).await;
        assert_eq!(written.all("server-timing").len(), timings, "{host}");
        assert!(!written.has("set-cookie") && !written.has("x-verge-bookmark"), "{host}");
        assert!(!written.has("cache-control"));
        let lines = ["X-Verge-Bookmark: junk".to_owned()];
        assert_eq!(fleet.get(1, host, "/read/a", &lines).await.body, "0");
    }
}

#[tokio::test]
async fn a_write_before_a_failure_is_told_and_a_lost_history_ends_the_session() {
    let fleet = Fleet::new().await;
    let mut browser = Browser::default();
    let failed = browser.get(&fleet, 0, "/fail/a").await;
    assert_eq!((failed.status, failed.one("cache-control")), (500, "no-store"));
    assert_eq!(browser.get(&fleet, 1, "/read/a").await.body, "1");
    let lost = browser.get(&fleet, 1, "/gone/a").await;
    assert_eq!((lost.status, browser.ours()), (409, 0));
    let ask = ["X-Verge-Session: header".to_owned()];
    let written = fleet.get(0, "shop.test", "/write/a", &ask).await;
    let line = format!("X-Verge-Bookmark: {}", written.one("x-verge-bookmark"));
    let lost = fleet.get(0, "shop.test", "/gone/a", &[line]).await;
    assert!(lost.headers.iter().any(|(n, v)| n == "x-verge-bookmark" && v.is_empty()), "{lost:?}");
}

#[tokio::test]
async fn a_late_write_goes_into_the_trailers_of_who_asked() {
    let fleet = Fleet::new().await;
    let lines = ["X-Verge-Session: header".to_owned(), "TE: trailers".to_owned()];
    let answer = fleet.get(0, "shop.test", "/late", &lines).await;
    assert_eq!(answer.one("trailer"), "x-verge-bookmark");
    assert!(!answer.has("x-verge-bookmark") && answer.body.contains("told=true"));
    let (_, token) = answer.body.split_once("x-verge-bookmark: ").unwrap();
    let line = format!("X-Verge-Bookmark: {}", token.trim());
    assert_eq!(fleet.get(1, "shop.test", "/read/a", &[line]).await.body, "1");
    // Others cannot be told, and the app's side can know it.
    for lines in [&lines[..1], &lines[1..]] {
        let answer = fleet.get(0, "shop.test", "/late", lines).await;
        assert!(answer.body.contains("told=false") && answer.body.ends_with("0\r\n\r\n"));
        assert!(!answer.has("set-cookie") && !answer.has("trailer"));
    }
}

#[tokio::test]
async fn http2_carries_the_same() {
    let fleet = Fleet::new().await;
    let stream = TcpStream::connect(fleet.pops[0].0).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::get("http://shop.test/write/a").body(()).unwrap();
    let response = client.send_request(request, true).unwrap().0.await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    let pair = cookie.split(';').next().unwrap();
    // HTTP/2 may split cookies into fields.
    let request = Request::get("http://shop.test/read/a")
        .header("cookie", "a=1")
        .header("cookie", pair)
        .body(())
        .unwrap();
    let response = client.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(crate::support::h2_read(response.into_body()).await.unwrap(), b"1");
    let request = Request::get("http://shop.test/late")
        .header("x-verge-session", "header")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let mut body = client.send_request(request, true).unwrap().0.await.unwrap().into_body();
    while let Some(data) = timeout(PATIENCE, body.data()).await.unwrap() {
        body.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    let trailers = timeout(PATIENCE, body.trailers()).await.unwrap().unwrap().unwrap();
    let line = format!("X-Verge-Bookmark: {}", trailers["x-verge-bookmark"].to_str().unwrap());
    assert_eq!(fleet.get(1, "shop.test", "/read/a", &[line]).await.body, "2");
}

#[tokio::test]
async fn a_websocket_has_the_session_of_its_upgrade() {
    let fleet = Fleet::new().await;
    let mut browser = Browser::default();
    browser.get(&fleet, 0, "/write/a").await;
    let mut request = "ws://shop.test/ws/b".into_client_request().unwrap();
    let cookie = browser.lines()[0]["Cookie: ".len()..].parse().unwrap();
    request.headers_mut().insert("cookie", cookie);
    let stream = TcpStream::connect(fleet.pops[1].0).await.unwrap();
    let (mut socket, response) = client_async(request, stream).await.unwrap();
    let told = response.headers().get_all("set-cookie").iter();
    assert_eq!(told.count(), 2, "what the upgrade wrote is told, the old cookie removed");
    for (say, expected) in [("read", "1"), ("write", "2"), ("read", "2")] {
        socket.send(Message::text(say)).await.unwrap();
        let answer = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer, Message::text(expected), "{say}");
    }
}
