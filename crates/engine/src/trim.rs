//! What of Deno's extensions is not for apps: classes and ops that nothing in Verge leads to,
//! and what of Node's handles would reach past where apps may go.
//!
//! The snapshot and the isolates made from it must agree on what is left, so both come through
//! here. The shortened tables are made once a process.

use std::sync::OnceLock;

// Not public API; the exact pin of `deno_core` makes it safe to use.
use deno_core::_ops::OpMethodDecl;
use deno_core::{Extension, ExtensionFileSource, OpDecl, ascii_str};

use crate::Surface;
use crate::ops::unavailable::{self, op_verge_unavailable};

/// A table of declarations that lives as long as the process.
struct Table<T>(OnceLock<Vec<T>>);

/// Declarations are function pointers, and pointers to tables that nobody writes to and that
/// live as long as the process.
trait Declaration: Copy {}
impl Declaration for OpDecl {}
impl Declaration for OpMethodDecl {}

// SAFETY: a declaration is the same on every thread, as said above.
unsafe impl<T: Declaration> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T: Declaration> Sync for Table<T> {}

impl<T: Declaration> Table<T> {
    const fn new() -> Self {
        Self(OnceLock::new())
    }

    fn get(&'static self, all: &[T], kept: impl Fn(&T) -> Option<T>) -> &'static [T] {
        self.0.get_or_init(|| all.iter().filter_map(kept).collect())
    }
}

/// Drawing and style sheets: a browser's.
const NO_CLASSES: &[&str] = &[
    "CSSRule",
    "CSSStyleSheet",
    "DOMMatrix",
    "DOMMatrixReadOnly",
    "DOMPoint",
    "DOMPointReadOnly",
    "DOMQuad",
    "DOMRect",
    "DOMRectReadOnly",
    "ImageData",
];

/// Locks between the threads of a program; only Node's modules lead to them.
const LOCKS: &str = "op_lock_manager_";

/// Takes from the web's extension what no app is shown.
pub fn web(mut web: Extension, surface: Surface) -> Extension {
    static OPS: [Table<OpDecl>; 2] = [Table::new(), Table::new()];
    static CLASSES: Table<OpMethodDecl> = Table::new();
    let gone = |op: &OpDecl| {
        op.name.starts_with("op_geometry_") || surface == Surface::Web && op.name.starts_with(LOCKS)
    };
    let classes = |class: &OpMethodDecl| (!NO_CLASSES.contains(&class.name.0)).then_some(*class);
    web.ops = OPS[surface as usize].get(&web.ops, |op| (!gone(op)).then_some(*op)).into();
    web.objects = CLASSES.get(&web.objects, classes).into();
    web
}

/// Takes away Deno's own telemetry, which is never turned on: requests are traced outside of
/// isolates. Its script is loaded with `fetch`, and finds nothing that it would count with.
pub fn telemetry(mut telemetry: Extension) -> Extension {
    telemetry.ops = [].as_slice().into();
    telemetry.objects = [].as_slice().into();
    telemetry
}

/// What Deno's HTTP client imports to read a client's certificate, which `fetch` of an app never
/// has. In its place, so that the sockets of Deno's namespace are not loaded with it.
const NO_CERTIFICATES: &[ExtensionFileSource] = &[ExtensionFileSource::new(
    "ext:deno_net/02_tls.js",
    ascii_str!("(function () { return { loadTlsKeyPair: undefined }; })();"),
)];

/// Takes QUIC and WebTransport from the network's extension, and on the web's surface all of it:
/// only Node's modules use these sockets.
pub fn net(mut net: Extension, surface: Surface) -> Extension {
    static OPS: Table<OpDecl> = Table::new();
    if surface == Surface::Web {
        net.ops = [].as_slice().into();
        net.lazy_loaded_js_files = NO_CERTIFICATES.into();
        net.lazy_loaded_esm_files = [].as_slice().into();
        return net;
    }
    let gone =
        |op: &OpDecl| op.name.starts_with("op_quic_") || op.name.starts_with("op_webtransport_");
    net.ops = OPS.get(&net.ops, |op| (!gone(op)).then_some(*op)).into();
    net
}

/// Methods of Node's handles that apps do not have. `open` takes over a file descriptor of
/// the process, whoever it belongs to.
const REFUSED: &[(&str, &[&str])] = &[
    ("TCPWrap", &["open", "openFromRid", "fdForIpc", "bind", "bindWithFlags", "bind6", "listen"]),
    ("PipeWrap", &["open", "fdForIpc", "bind", "listen", "connect", "fchmod"]),
];
/// Handles that apps cannot even make.
const NO_HANDLE: &[&str] = &["TTY", "WasiContext"];

fn hardened(decl: &OpMethodDecl) -> OpMethodDecl {
    let refuse = |op: OpDecl| op.with_implementation_from(&op_verge_unavailable());
    let mut decl = *decl;
    let refused = REFUSED.iter().find(|(class, _)| *class == decl.name.0).map(|(_, ops)| *ops);
    if let Some(refused) = refused {
        let methods: Vec<OpDecl> = decl
            .methods
            .iter()
            .map(|op| if refused.contains(&op.name) { refuse(*op) } else { *op })
            .collect();
        // Made once a process, and as long-lived as the table it stands for.
        decl.methods = methods.leak();
    }
    if NO_HANDLE.contains(&decl.name.0) {
        decl.constructor = decl.constructor.map(refuse);
    }
    decl
}

/// Takes from Node's extension listening, UDP, Unix sockets, and taking over the process's
/// files.
pub fn node(mut node: Extension) -> Extension {
    static CLASSES: Table<OpMethodDecl> = Table::new();
    node.objects = CLASSES.get(&node.objects, |class| Some(hardened(class))).into();
    node
}

/// Verge's own extension; on the web's surface without what stands in for Node's.
pub fn verge(mut verge: Extension, surface: Surface) -> Extension {
    static OPS: Table<OpDecl> = Table::new();
    if surface == Surface::Web {
        verge.ops = OPS
            .get(&verge.ops, |op| (!unavailable::FOR_NODE.contains(&op.name)).then_some(*op))
            .into();
        // Node's is the only one of them that is not there.
        verge.deps = &[];
    }
    verge
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a later Deno calls otherwise would be back without a word.
    #[test]
    fn whatever_is_named_here_exists() {
        let web = deno_web::deno_web::lazy_init();
        let net = deno_net::deno_net::lazy_init();
        for prefix in ["op_geometry_", "op_quic_", "op_webtransport_", LOCKS] {
            let ops = web.ops.iter().chain(&*net.ops);
            assert!(ops.into_iter().any(|op| op.name.starts_with(prefix)), "{prefix}");
        }
        for name in NO_CLASSES {
            assert!(web.objects.iter().any(|class| class.name.0 == *name), "{name}");
        }
        for source in NO_CERTIFICATES {
            let theirs = net.lazy_loaded_js_files.iter().any(|s| s.specifier == source.specifier);
            assert!(theirs, "{}", source.specifier);
        }
        let verge = crate::extensions::for_snapshot(Surface::Node).pop().unwrap();
        for name in unavailable::FOR_NODE {
            assert!(verge.ops.iter().any(|op| op.name == *name), "{name}");
        }
        let node = node_extension();
        let class = |name: &str| node.objects.iter().find(|class| class.name.0 == name);
        for name in NO_HANDLE {
            assert!(class(name).is_some_and(|class| class.constructor.is_some()), "{name}");
        }
        for (name, methods) in REFUSED {
            for method in *methods {
                let found = class(name)
                    .is_some_and(|class| class.methods.iter().any(|m| m.name == *method));
                assert!(found, "{name}.{method}");
            }
        }
    }

    fn node_extension() -> Extension {
        let all = crate::extensions::for_snapshot(Surface::Node);
        all.into_iter().find(|extension| extension.name == "deno_node").unwrap()
    }
}
