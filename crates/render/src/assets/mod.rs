//! A folder of static files as Workers serves it.

mod compress;
mod file;
mod headers;
mod html;
mod negotiate;
mod pattern;
mod range;
mod redirects;
mod respond;
mod scan;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use http::{Request, Response};
use verge_types::{AssetsConfig, Body};

use file::File;
use headers::HeaderRules;
use redirects::Redirects;

pub(crate) use pattern::glob;
pub use scan::{MAX_FILE_SIZE, MAX_FILES};

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: a link that leaves the assets directory is not served; copy the file")]
    LinkOutside { path: PathBuf },
    #[error("the assets directory has more than {MAX_FILES} files")]
    TooManyFiles,
    #[error("{path}: {size} bytes are more than an asset may have ({MAX_FILE_SIZE})")]
    TooLarge { path: PathBuf, size: u64 },
}

/// A scanned folder. Answering a request reads no directory and, for small files, no disk.
pub struct Assets {
    config: AssetsConfig,
    /// By path from the root, with a leading `/`, decoded.
    files: HashMap<String, Arc<File>>,
    headers: HeaderRules,
    redirects: Redirects,
    warnings: Vec<String>,
}

impl Assets {
    /// Scans the folder of `config`. With `previous`, files whose size and time are unchanged
    /// are not read again.
    pub fn load(config: &AssetsConfig, previous: Option<&Assets>) -> Result<Self, AssetError> {
        let mut warnings = Vec::new();
        let scanned = scan::scan(&config.directory, previous.map(|p| &p.files))?;
        let headers = HeaderRules::parse(scanned.headers.as_deref().unwrap_or(""), &mut warnings);
        let redirects = Redirects::parse(scanned.redirects.as_deref().unwrap_or(""), &mut warnings);
        Ok(Self { config: config.clone(), files: scanned.files, headers, redirects, warnings })
    }

    /// Lines of `_headers` and `_redirects` that were not understood, with their numbers.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub fn config(&self) -> &AssetsConfig {
        &self.config
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A redirect or a file for the request, or `None`. Answers GET and HEAD only.
    pub fn respond<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        respond::respond(self, request)
    }

    /// What a path without an asset gets where no code answers: the 404 page, the single-page
    /// application, or a plain 404 (405 for methods that no asset answers).
    pub fn not_found<B>(&self, request: &Request<B>) -> Response<Body> {
        respond::not_found(self, request)
    }
}
