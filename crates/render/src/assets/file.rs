//! One file: its bytes or where they are, and the headers it is sent with.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::negotiate::Encoding;

/// Files up to this size are kept in memory.
const KEEP_IN_MEMORY: u64 = 256 * 1024;

/// What is sent as the body.
#[derive(Clone)]
pub(super) enum Content {
    Memory(Bytes),
    Disk(PathBuf, u64),
}

impl Content {
    pub fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Disk(_, size) => *size,
        }
    }
}

pub(super) struct File {
    path: PathBuf,
    modified: Option<SystemTime>,
    pub content: Content,
    /// Hex digits of the content's hash; the strong ETag is made of it.
    digest: String,
    pub content_type: HeaderValue,
    /// The name carries a content hash, so the file never changes.
    pub immutable: bool,
    siblings: Mutex<[Option<Arc<File>>; 3]>,
    compressed: OnceLock<[Option<Bytes>; 2]>,
}

impl File {
    pub fn read(url: &str, path: &Path, meta: &Metadata) -> std::io::Result<Self> {
        let mut hasher = Sha256::new();
        let content = if meta.len() <= KEEP_IN_MEMORY {
            let bytes = std::fs::read(path)?;
            hasher.update(&bytes);
            Content::Memory(bytes.into())
        } else {
            let mut file = std::fs::File::open(path)?;
            let size = std::io::copy(&mut file, &mut hasher)?;
            Content::Disk(path.to_owned(), size)
        };
        let digest = hasher.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            path: path.to_owned(),
            modified: meta.modified().ok(),
            content,
            digest,
            content_type: content_type(url),
            immutable: is_hashed_name(url),
            siblings: Mutex::default(),
            compressed: OnceLock::new(),
        })
    }

    /// Size and time are what they were. A change within the clock's grain that keeps the
    /// size is missed; saving again mends it.
    pub fn is_unchanged(&self, path: &Path, meta: &Metadata) -> bool {
        self.path == path
            && self.content.len() == meta.len()
            && self.modified.is_some()
            && self.modified == meta.modified().ok()
    }

    pub fn set_sibling(&self, encoding: Encoding, file: Arc<File>) {
        self.siblings.lock()[encoding.index()] = Some(file);
    }

    /// The bytes in `encoding`: ready-made beside the file, or made when it was first asked
    /// for and small enough.
    pub fn encoded(&self, encoding: Encoding) -> Option<Content> {
        if let Some(sibling) = &self.siblings.lock()[encoding.index()] {
            return Some(sibling.content.clone());
        }
        let made = match encoding {
            Encoding::Brotli => 0,
            Encoding::Gzip => 1,
            Encoding::Zstd => return None,
        };
        self.compressed.get()?[made].clone().map(Content::Memory)
    }

    /// Worth compressing, in memory, and not compressed yet.
    pub fn to_compress(&self) -> Option<Bytes> {
        match &self.content {
            Content::Memory(bytes)
                if self.compressed.get().is_none()
                    && bytes.len() >= super::compress::WORTHWHILE
                    && is_text(&self.content_type) =>
            {
                Some(bytes.clone())
            }
            _ => None,
        }
    }

    pub fn set_compressed(&self, brotli: Option<Bytes>, gzip: Option<Bytes>) {
        // Somebody else's result is as good.
        let _ = self.compressed.set([brotli, gzip]);
    }

    /// Strong, and of its own for each encoding: the bytes differ.
    pub fn etag(&self, encoding: Option<Encoding>) -> String {
        match encoding {
            None => format!("\"{}\"", self.digest),
            Some(encoding) => format!("\"{}-{}\"", self.digest, encoding.token()),
        }
    }
}

fn content_type(url: &str) -> HeaderValue {
    let mime = mime_guess::from_path(url).first_or_octet_stream();
    let text = mime.essence_str();
    let charset = text.starts_with("text/")
        || ["application/javascript", "application/json", "application/xml", "image/svg+xml"]
            .contains(&text);
    let value = if charset { format!("{text}; charset=utf-8") } else { text.to_owned() };
    HeaderValue::from_str(&value)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

fn is_text(content_type: &HeaderValue) -> bool {
    let text = content_type.as_bytes();
    text.starts_with(b"text/")
        || [&b"javascript"[..], b"json", b"xml", b"svg", b"wasm", b"manifest"]
            .iter()
            .any(|part| text.windows(part.len()).any(|window| window == *part))
}

/// The name ends in a hash that a bundler put there: `app-B8fK2a1x.js`, `chunk.3f2a9c01.css`,
/// or the file is in a folder that frameworks fill with such files.
fn is_hashed_name(url: &str) -> bool {
    if url.starts_with("/_next/static/") || url.starts_with("/_app/immutable/") {
        return true;
    }
    let name = url.rsplit('/').next().unwrap_or(url);
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    if extension == "html" {
        return false;
    }
    let stem = stem.strip_suffix(".min").unwrap_or(stem);
    let Some(at) = stem.rfind(['-', '.', '_']) else { return false };
    let hash = &stem[at + 1..];
    let alphabet = hash.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let hex =
        hash.bytes().all(|b| b.is_ascii_hexdigit()) && hash.bytes().any(|b| b.is_ascii_digit());
    let mixed = hash.bytes().any(|b| b.is_ascii_digit())
        && hash.bytes().any(|b| b.is_ascii_uppercase())
        && hash.bytes().any(|b| b.is_ascii_lowercase());
    alphabet && (8..=64).contains(&hash.len()) && (hex || mixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_hash() {
        for name in ["/assets/index-B8fK2a1x.js", "/chunk.3f2a9c01.css", "/_next/static/x.js"] {
            assert!(is_hashed_name(name), "{name}");
        }
        for name in [
            "/index.html",
            "/app.js",
            "/jquery-3.6.0.js",
            "/my-component.js",
            "/a-12345678.html",
            "/well-documented.css",
        ] {
            assert!(!is_hashed_name(name), "{name}");
        }
    }

    #[test]
    fn types_have_a_charset_where_one_belongs() {
        assert_eq!(content_type("/a.html"), "text/html; charset=utf-8");
        assert_eq!(content_type("/a.js"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("/a.png"), "image/png");
        assert_eq!(content_type("/a"), "application/octet-stream");
    }
}
