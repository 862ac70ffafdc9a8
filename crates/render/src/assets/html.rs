//! Which file a path means: Workers' `html_handling`.

use std::collections::HashMap;
use std::sync::Arc;

use verge_types::HtmlHandling;

use super::file::File;

/// What a path leads to.
pub(super) enum Found<'a> {
    File(&'a str, &'a Arc<File>),
    /// Another path of the site, where the same page is at home.
    Redirect(String),
}

type Files = HashMap<String, Arc<File>>;

/// `path` is decoded and begins with `/`.
pub(super) fn find<'a>(files: &'a Files, mode: HtmlHandling, path: &str) -> Option<Found<'a>> {
    let file =
        |path: &str| files.get_key_value(path).map(|(path, file)| Found::File(path.as_str(), file));
    let has = |path: &str| files.contains_key(path);
    if mode == HtmlHandling::None {
        return file(path);
    }
    // `/foo` of `/foo.html`, `/foo/index`, `/foo/index.html`, `/foo/`.
    let (stem, kind) = split(path);
    let page = format!("{stem}.html");
    let index = format!("{stem}/index.html");
    let home = |stem: &str, as_folder: bool| {
        if as_folder || stem.is_empty() { format!("{stem}/") } else { stem.to_owned() }
    };
    match kind {
        Kind::Plain => {
            if let Some(found) = file(path) {
                return Some(found);
            }
            match mode {
                HtmlHandling::AutoTrailingSlash => match (has(&page), has(&index)) {
                    (true, _) => file(&page),
                    (false, true) => Some(Found::Redirect(home(stem, true))),
                    (false, false) => None,
                },
                HtmlHandling::ForceTrailingSlash => {
                    (has(&page) || has(&index)).then(|| Found::Redirect(home(stem, true)))
                }
                _ => file(&page).or_else(|| file(&index)),
            }
        }
        Kind::Folder => match mode {
            HtmlHandling::AutoTrailingSlash => {
                file(&index).or_else(|| has(&page).then(|| Found::Redirect(home(stem, false))))
            }
            HtmlHandling::ForceTrailingSlash => file(&index).or_else(|| file(&page)),
            _ if stem.is_empty() => file(&index),
            _ => (has(&page) || has(&index)).then(|| Found::Redirect(home(stem, false))),
        },
        Kind::Html | Kind::Index => {
            let exists = match kind {
                Kind::Html => has(path),
                _ => has(&index) || has(path),
            };
            if !exists {
                return None;
            }
            let folder = match mode {
                HtmlHandling::AutoTrailingSlash => kind == Kind::Index,
                HtmlHandling::ForceTrailingSlash => true,
                _ => false,
            };
            // Where the short form would mean another file, the long one stays.
            let short = home(stem, folder);
            match find_page(files, mode, &short) {
                Some(same) if same == path || (kind == Kind::Index && same == index) => {
                    Some(Found::Redirect(short))
                }
                _ => file(path),
            }
        }
    }
}

/// The file that is served for a short path, without another redirect.
fn find_page(files: &Files, mode: HtmlHandling, path: &str) -> Option<String> {
    match find(files, mode, path) {
        Some(Found::File(served, _)) => Some(served.to_owned()),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Folder,
    Html,
    Index,
}

fn split(path: &str) -> (&str, Kind) {
    if let Some(stem) = path.strip_suffix("/index.html").or_else(|| path.strip_suffix("/index")) {
        return (stem, Kind::Index);
    }
    if let Some(stem) = path.strip_suffix(".html") {
        return (stem, Kind::Html);
    }
    match path.strip_suffix('/') {
        Some(stem) => (stem, Kind::Folder),
        None => (path, Kind::Plain),
    }
}
