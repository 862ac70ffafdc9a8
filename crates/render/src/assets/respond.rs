//! From a request to a file's response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use verge_types::{Body, BodyError, NotFoundHandling};

use super::file::{Content, File};
use super::html::{self, Found};
use super::negotiate::{self, Encoding};
use super::range::{self, Wanted};
use super::{Assets, compress};

/// Bytes read from disk at a time.
const CHUNK: usize = 64 * 1024;
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// What a path keeps as it is in a `Location`.
const PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'#')
    .add(b'?')
    .add(b'{')
    .add(b'}')
    .add(b'%');

/// The path, decoded, or `None` if it can name no file: it is no UTF-8, or tries to climb.
fn decode(raw: &str) -> Option<String> {
    let path = percent_decode_str(raw).decode_utf8().ok()?;
    let climbs = path.split('/').any(|part| part == ".." || part == ".");
    let odd = path.contains('\0') || path.contains('\\') || path.contains("//");
    (path.starts_with('/') && !climbs && !odd).then(|| path.into_owned())
}

pub(super) fn respond<B>(assets: &Assets, request: &Request<B>) -> Option<Response<Body>> {
    let raw = request.uri().path();
    let path = decode(raw)?;
    let redirect = assets.redirects.find(raw).or_else(|| assets.redirects.find(&path));
    if let Some(redirect) = redirect {
        if redirect.status != 200 {
            let status = StatusCode::from_u16(redirect.status).ok()?;
            return redirect_to(&redirect.to, request.uri().query(), status);
        }
        return serve_path(assets, request, &redirect.to, StatusCode::OK);
    }
    serve_path(assets, request, &path, StatusCode::OK)
}

fn serve_path<B>(
    assets: &Assets,
    request: &Request<B>,
    path: &str,
    status: StatusCode,
) -> Option<Response<Body>> {
    let is_read = request.method() == Method::GET || request.method() == Method::HEAD;
    if !is_read {
        return None;
    }
    match html::find(&assets.files, assets.config.html_handling, path)? {
        Found::File(url, file) => Some(send(assets, request, url, file, status)),
        Found::Redirect(to) => {
            let to = utf8_percent_encode(&to, PATH).to_string();
            redirect_to(&to, request.uri().query(), StatusCode::TEMPORARY_REDIRECT)
        }
    }
}

fn redirect_to(to: &str, query: Option<&str>, status: StatusCode) -> Option<Response<Body>> {
    let location = match query {
        Some(query) if !to.contains('?') => match to.split_once('#') {
            Some((path, fragment)) => format!("{path}?{query}#{fragment}"),
            None => format!("{to}?{query}"),
        },
        _ => to.to_owned(),
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).ok()?);
    mark(response.headers_mut());
    Some(response)
}

fn mark(headers: &mut HeaderMap) {
    headers.insert(CACHE_STATUS, HeaderValue::from_static("verge; hit; detail=asset"));
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn send<B>(
    assets: &Assets,
    request: &Request<B>,
    url: &str,
    file: &Arc<File>,
    status: StatusCode,
) -> Response<Body> {
    compress::in_background(file);
    let asked = request.headers();
    let ranged = asked.contains_key(header::RANGE) && status == StatusCode::OK;
    // A part of a compressed form is of no use to who resumes a download.
    let encoding = if ranged {
        None
    } else {
        text(asked, &header::ACCEPT_ENCODING).and_then(|accept| {
            negotiate::choose(accept, |encoding| file.encoded(encoding).is_some())
        })
    };
    let content = encoding
        .and_then(|encoding| file.encoded(encoding))
        .unwrap_or_else(|| file.content.clone());
    let etag = file.etag(encoding);

    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, file.content_type.clone());
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(if file.immutable && status == StatusCode::OK {
            "public, max-age=31536000, immutable"
        } else {
            "public, max-age=0, must-revalidate"
        }),
    );
    if Encoding::ALL.into_iter().any(|encoding| file.encoded(encoding).is_some()) {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.token()));
    }
    mark(headers);
    assets.headers.apply(&decode(request.uri().path()).unwrap_or_else(|| url.to_owned()), headers);

    let fresh = status == StatusCode::OK
        && text(asked, &header::IF_NONE_MATCH).is_some_and(|tags| matches_any(tags, &etag));
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    if status == StatusCode::OK {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let size = content.len();
    let same = text(asked, &header::IF_RANGE).is_none_or(|tag| tag.trim() == etag);
    let wanted = match text(asked, &header::RANGE) {
        Some(range) if ranged && same => range::parse(Some(range), size),
        _ => Wanted::All,
    };
    let (first, length) = match wanted {
        Wanted::All => (0, size),
        Wanted::Part(first, last) => {
            if let Ok(value) = HeaderValue::from_str(&format!("bytes {first}-{last}/{size}")) {
                headers.insert(header::CONTENT_RANGE, value);
            }
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            (first, last - first + 1)
        }
        Wanted::Unsatisfiable => {
            if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size}")) {
                headers.insert(header::CONTENT_RANGE, value);
            }
            headers.remove(header::CONTENT_TYPE);
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return response;
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if request.method() != Method::HEAD {
        *response.body_mut() = body(content, first, length);
    }
    response
}

fn matches_any(tags: &str, etag: &str) -> bool {
    // Weak comparison, as RFC 9110 asks for If-None-Match.
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

fn body(content: Content, first: u64, length: u64) -> Body {
    match content {
        Content::Memory(bytes) => {
            let start = usize::try_from(first).unwrap_or(bytes.len()).min(bytes.len());
            let length = usize::try_from(length).unwrap_or(bytes.len());
            let end = start.saturating_add(length).min(bytes.len());
            bytes.slice(start..end).into()
        }
        Content::Disk(path, _) => {
            let (sender, receiver) = tokio::sync::mpsc::channel(2);
            tokio::spawn(async move {
                if let Err(error) = read(&path, first, length, &sender).await {
                    // The head is out: an aborted body is the honest end.
                    let _ = sender.send(Err(BodyError::Transport(Box::new(error)))).await;
                }
            });
            Body::stream(Chunks(receiver))
        }
    }
}

type Chunk = Result<http_body::Frame<Bytes>, BodyError>;

async fn read(
    path: &std::path::Path,
    first: u64,
    length: u64,
    sender: &tokio::sync::mpsc::Sender<Chunk>,
) -> std::io::Result<()> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(first)).await?;
    let mut left = length;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; take];
        file.read_exact(&mut chunk).await?;
        left -= take as u64;
        if sender.send(Ok(http_body::Frame::data(chunk.into()))).await.is_err() {
            break;
        }
    }
    Ok(())
}

struct Chunks(tokio::sync::mpsc::Receiver<Chunk>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Chunk>> {
        self.0.poll_recv(cx)
    }
}

pub(super) fn not_found<B>(assets: &Assets, request: &Request<B>) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let page = match assets.config.not_found_handling {
        NotFoundHandling::None => None,
        NotFoundHandling::SinglePageApplication => assets
            .files
            .get("/index.html")
            .map(|file| send(assets, request, "/index.html", file, StatusCode::OK)),
        NotFoundHandling::NotFoundPage => nearest_404(assets, request.uri().path())
            .map(|(url, file)| send(assets, request, &url, &file, StatusCode::NOT_FOUND)),
    };
    page.unwrap_or_else(|| {
        let mut response = Response::new(Body::from("Not Found"));
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    })
}

/// `404.html` in the folder of the path, or the nearest one above it.
fn nearest_404(assets: &Assets, raw: &str) -> Option<(String, Arc<File>)> {
    let path = decode(raw).unwrap_or_else(|| "/".to_owned());
    let mut folder = path.as_str();
    while let Some(at) = folder.rfind('/') {
        folder = &folder[..at];
        let url = format!("{folder}/404.html");
        if let Some(file) = assets.files.get(&url) {
            return Some((url, file.clone()));
        }
    }
    None
}
