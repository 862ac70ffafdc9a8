//! Hashes that are fed piece by piece, for `crypto.DigestStream`.

use std::cell::RefCell;

use deno_core::{GarbageCollected, op2, v8};
use sha2::digest::DynDigest;

use super::OpError;

pub struct Digest(RefCell<Box<dyn DynDigest>>);

// SAFETY: it holds nothing of V8's, so there is nothing to trace.
unsafe impl GarbageCollected for Digest {
    fn trace(&self, _visitor: &mut v8::cppgc::Visitor) {}

    fn get_name(&self) -> &'static std::ffi::CStr {
        c"Digest"
    }
}

#[op2]
#[cppgc]
pub fn op_verge_digest_new(#[string] name: &str) -> Result<Digest, OpError> {
    let hash: Box<dyn DynDigest> = match name.to_ascii_uppercase().as_str() {
        "SHA-1" => Box::new(sha1::Sha1::default()),
        "SHA-256" => Box::new(sha2::Sha256::default()),
        "SHA-384" => Box::new(sha2::Sha384::default()),
        "SHA-512" => Box::new(sha2::Sha512::default()),
        "MD5" => Box::new(md5::Md5::default()),
        _ => {
            return Err(OpError::Type(format!(
                "DigestStream knows SHA-1, SHA-256, SHA-384, SHA-512 and MD5, not `{name}`"
            )));
        }
    };
    Ok(Digest(RefCell::new(hash)))
}

#[op2(fast)]
pub fn op_verge_digest_update(#[cppgc] digest: &Digest, #[buffer] bytes: &[u8]) {
    digest.0.borrow_mut().update(bytes);
}

#[op2]
#[buffer]
pub fn op_verge_digest_finish(#[cppgc] digest: &Digest) -> Vec<u8> {
    digest.0.borrow_mut().finalize_reset().into_vec()
}
