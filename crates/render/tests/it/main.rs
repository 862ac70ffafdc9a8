//! Real folders, real files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod paths;
mod responses;
mod site;

use std::path::Path;

use http::{Request, Response};
use http_body_util::BodyExt;
use verge_render::Assets;
use verge_types::{AssetsConfig, Body, HtmlHandling, NotFoundHandling, RunWorkerFirst};

pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

pub fn config(dir: &Path) -> AssetsConfig {
    AssetsConfig {
        directory: dir.to_owned(),
        html_handling: HtmlHandling::default(),
        not_found_handling: NotFoundHandling::default(),
        run_worker_first: RunWorkerFirst::default(),
    }
}

pub fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::Empty).unwrap()
}

/// Status, and the body or where it redirects to.
pub async fn outcome(response: Option<Response<Body>>) -> String {
    let Some(response) = response else { return "miss".to_owned() };
    let status = response.status().as_u16();
    if let Some(location) = response.headers().get("location") {
        return format!("{status} {}", location.to_str().unwrap());
    }
    let body = response.into_body().collect().await.unwrap().to_bytes();
    format!("{status} {}", String::from_utf8_lossy(&body))
}

pub async fn ask(assets: &Assets, path: &str) -> String {
    outcome(assets.respond(&get(path))).await
}
