//! An app's assets and its code as one service.
//!
//! Redirects and files answer first, unless `run_worker_first` gives the code the first look.
//! What no file answers goes to the code; where there is none, to `not_found_handling`. A
//! single-page application or a 404 page answers *navigations* even where there is code, as
//! Workers does since its compatibility date 2025-04-01.

use std::sync::Arc;

use http::{Method, Request, Response};
use parking_lot::RwLock;
use verge_types::{
    Body, BoxFuture, Fault, NotFoundHandling, RequestContext, RunWorkerFirst, Service,
};

use crate::Assets;

/// Assets before (or behind) code.
pub struct Site {
    assets: Option<Arc<RwLock<Arc<Assets>>>>,
    code: Option<Arc<dyn Service>>,
}

impl Site {
    /// With neither, every request is a 404.
    pub fn new(assets: Option<Arc<Assets>>, code: Option<Arc<dyn Service>>) -> Self {
        Self { assets: assets.map(|assets| Arc::new(RwLock::new(assets))), code }
    }

    /// Serves another scan of the folder from now on.
    pub fn replace_assets(&self, assets: Arc<Assets>) {
        if let Some(slot) = &self.assets {
            *slot.write() = assets;
        }
    }

    fn assets(&self) -> Option<Arc<Assets>> {
        self.assets.as_ref().map(|slot| slot.read().clone())
    }
}

/// True if the code is asked before the assets.
fn code_first(rule: &RunWorkerFirst, path: &str) -> bool {
    match rule {
        RunWorkerFirst::All(first) => *first,
        RunWorkerFirst::Paths(patterns) => {
            let is_match = |pattern: &str| crate::assets::glob(pattern, path);
            let excepted =
                patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(is_match);
            !excepted
                && patterns.iter().filter(|pattern| !pattern.starts_with('!')).any(|p| is_match(p))
        }
    }
}

fn is_navigation(request: &Request<Body>) -> bool {
    let mode = request.headers().get("sec-fetch-mode").map(|value| value.as_bytes());
    (request.method() == Method::GET || request.method() == Method::HEAD)
        && mode == Some(b"navigate")
}

impl Service for Site {
    fn call(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        let ready = |response| -> BoxFuture<Result<Response<Body>, Fault>> {
            Box::pin(std::future::ready(Ok(response)))
        };
        let Some(assets) = self.assets() else {
            return match &self.code {
                Some(code) => code.call(request, cx),
                None => {
                    let mut response = Response::new(Body::from("Not Found"));
                    *response.status_mut() = http::StatusCode::NOT_FOUND;
                    ready(response)
                }
            };
        };
        let config = assets.config();
        let Some(code) = &self.code else {
            return ready(assets.respond(&request).unwrap_or_else(|| assets.not_found(&request)));
        };
        if code_first(&config.run_worker_first, request.uri().path()) {
            return code.call(request, cx);
        }
        if let Some(response) = assets.respond(&request) {
            return ready(response);
        }
        let listed = matches!(config.run_worker_first, RunWorkerFirst::Paths(_));
        let page = config.not_found_handling != NotFoundHandling::None;
        if page && (is_navigation(&request) || listed) {
            return ready(assets.not_found(&request));
        }
        code.call(request, cx)
    }
}

/// `env.ASSETS`: the assets alone, never the code.
pub struct AssetsBinding(pub Arc<Assets>);

impl Service for AssetsBinding {
    fn call(
        &self,
        request: Request<Body>,
        _cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        let response = self.0.respond(&request).unwrap_or_else(|| self.0.not_found(&request));
        Box::pin(std::future::ready(Ok(response)))
    }
}
