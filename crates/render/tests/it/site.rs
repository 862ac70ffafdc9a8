//! Who answers: the assets or the code.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response};
use verge_render::{Assets, Site};
use verge_types::{
    Body, BoxFuture, ClientInfo, Fault, Geo, NotFoundHandling, RequestContext, RequestId,
    RunWorkerFirst, Scheme, Service, Session, TraceContext,
};

use crate::{config, folder, get, outcome};

struct Code;

impl Service for Code {
    fn call(
        &self,
        request: Request<Body>,
        _cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        let body = Body::from(format!("code {}", request.uri().path()));
        Box::pin(std::future::ready(Ok(Response::new(body))))
    }
}

fn cx() -> RequestContext {
    RequestContext {
        id: RequestId(1),
        client: Arc::new(ClientInfo {
            addr: SocketAddr::from(([127, 0, 0, 1], 1)),
            scheme: Scheme::Http,
            http_protocol: "HTTP/1.1",
            tls_version: "",
            tls_cipher: "",
        }),
        geo: Arc::new(Geo::default()),
        trace: TraceContext { trace_id: 1, span_id: 1, parent_id: None, sampled: false },
        session: Session::off(),
    }
}

async fn call(site: &Site, request: Request<Body>) -> String {
    outcome(site.call(request, cx()).await.ok()).await
}

#[tokio::test]
async fn assets_answer_before_code() {
    let dir = folder(&[("index.html", "root"), ("a.txt", "a"), ("api/x.txt", "file")]);
    let mut config = config(dir.path());
    let site = |config: &verge_types::AssetsConfig| {
        Site::new(Some(Arc::new(Assets::load(config, None).unwrap())), Some(Arc::new(Code)))
    };

    let plain = site(&config);
    assert_eq!(call(&plain, get("/a.txt")).await, "200 a");
    assert_eq!(call(&plain, get("/b.txt")).await, "200 code /b.txt");
    let mut post = get("/a.txt");
    *post.method_mut() = http::Method::POST;
    assert_eq!(call(&plain, post).await, "200 code /a.txt");

    config.run_worker_first = RunWorkerFirst::All(true);
    assert_eq!(call(&site(&config), get("/a.txt")).await, "200 code /a.txt");

    config.run_worker_first = RunWorkerFirst::Paths(vec!["/api/*".into(), "!/api/x.txt".into()]);
    let some = site(&config);
    assert_eq!(call(&some, get("/api/y")).await, "200 code /api/y");
    assert_eq!(call(&some, get("/api/x.txt")).await, "200 file");
    assert_eq!(call(&some, get("/a.txt")).await, "200 a");
}

#[tokio::test]
async fn a_single_page_application_answers_navigations() {
    let dir = folder(&[("index.html", "root")]);
    let mut config = config(dir.path());
    config.not_found_handling = NotFoundHandling::SinglePageApplication;
    let assets = Arc::new(Assets::load(&config, None).unwrap());
    let site = Site::new(Some(assets.clone()), Some(Arc::new(Code)));
    let mut navigation = get("/deep/link");
    navigation.headers_mut().insert("sec-fetch-mode", "navigate".parse().unwrap());
    assert_eq!(call(&site, navigation).await, "200 root");
    assert_eq!(call(&site, get("/api/data")).await, "200 code /api/data");
    assert_eq!(call(&Site::new(Some(assets), None), get("/deep/link")).await, "200 root");
    assert_eq!(call(&Site::new(None, None), get("/")).await, "404 Not Found");
}
