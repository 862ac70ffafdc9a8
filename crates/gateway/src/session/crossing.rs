//! Answers that cross: a browser with any number of requests on their way at once, in any order,
//! never loses a write whose answer it has, and does not gather cookies without bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response};
use proptest::collection::vec;
use proptest::prelude::*;
use verge_telemetry::Metrics;
use verge_types::{
    Body, BoxFuture, DatasetId, Fault, Position, RequestContext, Routed, Scheme, Service, Session,
    SessionKeys, SessionPolicy,
};

use super::ClientSession;
use crate::headers;

struct Nobody;

impl Service for Nobody {
    fn call(
        &self,
        _: Request<Body>,
        _: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        Box::pin(std::future::ready(Ok(Response::new(Body::Empty))))
    }
}

#[derive(Default)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    fn open(&self, routed: &Routed) -> Box<ClientSession> {
        let mut headers = HeaderMap::new();
        if !self.0.is_empty() {
            let pairs: Vec<_> =
                self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.insert(COOKIE, HeaderValue::try_from(pairs.join("; ")).unwrap());
        }
        let survey = headers::survey(&headers);
        let opened =
            ClientSession::open(routed, &mut headers, &survey, Scheme::Http, &Metrics::new());
        assert!(headers.is_empty());
        opened.unwrap().unwrap()
    }

    fn close(&mut self, session: ClientSession) {
        let mut response = Response::new(Body::Empty);
        session.close(&mut response, false);
        for value in response.headers().get_all(SET_COOKIE) {
            let text = value.to_str().unwrap();
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            if text.contains("Max-Age=0;") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Start,
    /// One of the running requests writes or reads one of two datasets.
    Write(usize, usize),
    Read(usize, usize),
    /// One of the running requests is answered.
    Answer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Start),
        3 => (0..8usize, 0..2usize).prop_map(|(r, d)| Step::Write(r, d)),
        2 => (0..8usize, 0..2usize).prop_map(|(r, d)| Step::Read(r, d)),
        3 => (0..8usize).prop_map(Step::Answer),
    ]
}

fn routed() -> Routed {
    Routed {
        app: "shop".parse().unwrap(),
        service: Arc::new(Nobody),
        max_request_body: 0,
        max_wall_ms: 0,
        sessions: SessionPolicy::On(Arc::new(SessionKeys::new([7; 32]))),
    }
}

struct Running {
    open: Box<ClientSession>,
    session: Session,
    wrote: [u64; 2],
}

proptest! {
    #[test]
    fn a_write_that_was_answered_is_never_lost(steps in vec(step(), 1..60)) {
        let routed = routed();
        let datasets: [DatasetId; 2] = ["shop/a".parse().unwrap(), "shop/b".parse().unwrap()];
        let (mut browser, mut running) = (Browser::default(), Vec::<Running>::new());
        let (mut primary, mut told) = ([0u64; 2], [0u64; 2]);
        for step in steps {
            let count = running.len();
            match step {
                Step::Start => {
                    let open = browser.open(&routed);
                    let session = open.session();
                    for (dataset, told) in datasets.iter().zip(told) {
                        let held = session.position(dataset).map_or(0, |p| p.txid);
                        prop_assert!(held >= told, "{held} < {told} in {dataset}");
                    }
                    running.push(Running { open, session, wrote: [0; 2] });
                }
                Step::Write(r, d) if count > 0 => {
                    primary[d] += 1;
                    let request = &mut running[r % count];
                    request.wrote[d] = primary[d];
                    request.session.wrote(&datasets[d], Position::new(1, primary[d]));
                }
                Step::Read(r, d) if count > 0 => {
                    running[r % count].session.saw(&datasets[d], Position::new(1, primary[d]));
                }
                Step::Answer(r) if count > 0 => {
                    let Running { open, wrote, .. } = running.remove(r % count);
                    browser.close(*open);
                    for d in 0..2 {
                        told[d] = told[d].max(wrote[d]);
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn cookies_of_parallel_writes_are_taken_up(parallel in 1..40usize) {
        let routed = routed();
        let dataset: DatasetId = "shop/a".parse().unwrap();
        let mut browser = Browser::default();
        let open: Vec<_> = (0..parallel).map(|_| browser.open(&routed)).collect();
        for (txid, open) in (1..).zip(open) {
            open.session().wrote(&dataset, Position::new(1, txid));
            browser.close(*open);
        }
        prop_assert_eq!(browser.0.len(), parallel);
        // Reads do so too where there are many, all to the same one.
        let open: Vec<_> = (0..3).map(|_| browser.open(&routed)).collect();
        for open in open {
            open.session().saw(&dataset, Position::new(1, 99));
            browser.close(*open);
        }
        prop_assert_eq!(browser.0.len(), if parallel < super::CROWD { parallel + 1 } else { 2 });
        let open = browser.open(&routed);
        open.session().wrote(&dataset, Position::new(1, 100));
        browser.close(*open);
        let writes = browser.0.keys().filter(|name| name.len() > super::cookie::PREFIX.len());
        prop_assert_eq!(writes.count(), 1);
    }
}
