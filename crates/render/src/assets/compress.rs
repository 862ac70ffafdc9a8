//! Compressing small text files once, off the request's path.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::file::File;

/// Below this the headers cost more than the bytes saved.
pub(super) const WORTHWHILE: usize = 860;
/// Of 0 to 11: most of the gain at a tenth of the best one's time.
const BROTLI_QUALITY: u32 = 5;
const BROTLI_WINDOW: u32 = 20;

/// Starts compressing `file` if that is worth it; requests meanwhile get the plain form.
pub(super) fn in_background(file: &Arc<File>) {
    let Some(bytes) = file.to_compress() else { return };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let file = file.clone();
    runtime.spawn_blocking(move || {
        // Two requests at once may both come here; the first result stands.
        if file.to_compress().is_some() {
            file.set_compressed(smaller(brotli(&bytes), &bytes), smaller(gzip(&bytes), &bytes));
        }
    });
}

fn smaller(compressed: std::io::Result<Vec<u8>>, plain: &Bytes) -> Option<Bytes> {
    compressed.ok().filter(|bytes| bytes.len() < plain.len()).map(Bytes::from)
}

fn brotli(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() / 3);
    {
        let mut writer =
            brotli::CompressorWriter::new(&mut out, 4096, BROTLI_QUALITY, BROTLI_WINDOW);
        writer.write_all(bytes)?;
        writer.flush()?;
    }
    Ok(out)
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::new(6));
    encoder.write_all(bytes)?;
    encoder.finish()
}
