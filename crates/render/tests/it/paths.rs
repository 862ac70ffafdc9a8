//! Which file a path means, in all modes; what names no file.

use proptest::prelude::*;
use verge_render::Assets;
use verge_types::HtmlHandling;

use crate::{ask, config, folder, get};

const FILES: &[(&str, &str)] = &[
    ("index.html", "root"),
    ("file.html", "file"),
    ("folder/index.html", "folder"),
    ("both.html", "both-file"),
    ("both/index.html", "both-folder"),
    ("plain.txt", "plain"),
    ("with space.txt", "space"),
];

#[tokio::test]
async fn html_handling_in_all_modes() {
    use HtmlHandling::{AutoTrailingSlash, DropTrailingSlash, ForceTrailingSlash, None};
    let dir = folder(FILES);
    // path, auto, force, drop, none
    let table = [
        ("/", "200 root", "200 root", "200 root", "miss"),
        ("/index", "307 /", "307 /", "307 /", "miss"),
        ("/index.html", "307 /", "307 /", "307 /", "200 root"),
        ("/file", "200 file", "307 /file/", "200 file", "miss"),
        ("/file.html", "307 /file", "307 /file/", "307 /file", "200 file"),
        ("/file/", "307 /file", "200 file", "307 /file", "miss"),
        ("/file/index", "miss", "miss", "miss", "miss"),
        ("/file/index.html", "miss", "miss", "miss", "miss"),
        ("/folder", "307 /folder/", "307 /folder/", "200 folder", "miss"),
        ("/folder.html", "miss", "miss", "miss", "miss"),
        ("/folder/", "200 folder", "200 folder", "307 /folder", "miss"),
        ("/folder/index", "307 /folder/", "307 /folder/", "307 /folder", "miss"),
        ("/folder/index.html", "307 /folder/", "307 /folder/", "307 /folder", "200 folder"),
        ("/both", "200 both-file", "307 /both/", "200 both-file", "miss"),
        ("/both/", "200 both-folder", "200 both-folder", "307 /both", "miss"),
        ("/plain.txt", "200 plain", "200 plain", "200 plain", "200 plain"),
        ("/with%20space.txt", "200 space", "200 space", "200 space", "200 space"),
        ("/missing", "miss", "miss", "miss", "miss"),
        ("/plain.txt/", "miss", "miss", "miss", "miss"),
    ];
    for (column, mode) in
        [AutoTrailingSlash, ForceTrailingSlash, DropTrailingSlash, None].into_iter().enumerate()
    {
        let mut config = config(dir.path());
        config.html_handling = mode;
        let assets = Assets::load(&config, Option::None).unwrap();
        for row in table {
            let expected = [row.1, row.2, row.3, row.4][column];
            assert_eq!(ask(&assets, row.0).await, expected, "{mode:?} {}", row.0);
        }
    }
}

#[tokio::test]
async fn a_redirect_keeps_the_query() {
    let dir = folder(FILES);
    let assets = Assets::load(&config(dir.path()), None).unwrap();
    assert_eq!(ask(&assets, "/file.html?a=1&b=2").await, "307 /file?a=1&b=2");
}

#[tokio::test]
async fn no_spelling_leaves_the_folder() {
    let outer =
        folder(&[("secret.txt", "secret"), ("site/index.html", "root"), ("site/.env", "s")]);
    let assets = Assets::load(&config(&outer.path().join("site")), None).unwrap();
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt",
        "/x/../../secret.txt",
        "/%2e%2e%00/secret.txt",
        "/secret.txt%00",
        "//secret.txt",
        "/./../secret.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/..;/secret.txt",
        "/.env",
        "/%2eenv",
        "/%252e%252e/secret.txt",
        "/\u{ff0e}\u{ff0e}/secret.txt",
    ] {
        let Ok(uri) = path.parse::<http::Uri>() else { continue };
        let mut request = get("/");
        *request.uri_mut() = uri;
        let answer = crate::outcome(assets.respond(&request)).await;
        assert!(!answer.contains("secret") || answer.starts_with("3"), "{path}: {answer}");
        assert_ne!(answer, "200 s", "{path}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leaves_the_folder_is_refused() {
    let outer = folder(&[("secret.txt", "secret"), ("site/index.html", "root")]);
    std::os::unix::fs::symlink(outer.path().join("secret.txt"), outer.path().join("site/link.txt"))
        .unwrap();
    let error = Assets::load(&config(&outer.path().join("site")), None).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("link.txt"), "{error}");
}

proptest! {
    #[test]
    fn headers_and_redirects_of_any_text_never_panic(headers in ".{0,400}", redirects in ".{0,400}", path in "/[a-z/:*%.]{0,30}") {
        let dir = folder(&[("index.html", "x"), ("_headers", &headers), ("_redirects", &redirects)]);
        let assets = Assets::load(&config(dir.path()), None).unwrap();
        let mut request = get("/");
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        let _ = assets.respond(&request);
    }
}
