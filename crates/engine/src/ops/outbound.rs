//! Sockets of `node:net`, held to where apps may connect to, and what of Node's sockets is
//! not for apps at all: listening, UDP, Unix sockets, and taking over the process's files.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

// Not public API; the exact pin of `deno_core` makes it safe to use.
use deno_core::_ops::OpMethodDecl;
use deno_core::{Extension, OpDecl, OpState, op2};
use deno_net::ops::NetPermToken;
use verge_telemetry::{Level, LogRecord};

use super::host;
use super::unavailable::op_verge_unavailable;
use crate::host::{LookupFailure, Outbound};

/// libuv's code for a name that does not exist.
const UV_EAI_NONAME: i32 = -3008;

/// What Node makes its `getaddrinfo` errors of.
#[derive(Debug, thiserror::Error, deno_error::JsError)]
pub enum LookupError {
    #[class("NotCapable")]
    #[error("{0}")]
    Refused(String),
    #[class(generic)]
    #[error("the name was not found")]
    #[property("uv_errcode" = UV_EAI_NONAME)]
    NotFound,
}

fn gate(state: &OpState) -> Option<Arc<dyn Outbound>> {
    state.try_borrow::<Arc<dyn Outbound>>().cloned()
}

/// Why a socket may not connect there; null if it may.
#[op2]
#[string]
pub fn op_verge_socket_refusal(
    state: &mut OpState,
    #[string] address: &str,
    #[smi] port: u32,
) -> Option<String> {
    let Some(gate) = gate(state) else { return Some("no outbound connections here".to_owned()) };
    let port = u16::try_from(port).unwrap_or(0);
    gate.socket(address, port).err()
}

/// In place of Node's own: every answer is judged.
#[op2]
#[cppgc]
pub async fn op_verge_getaddrinfo(
    state: Rc<RefCell<OpState>>,
    #[string] hostname: String,
    port: Option<u16>,
    #[smi] family: i32,
) -> Result<NetPermToken, LookupError> {
    let gate = gate(&state.borrow()).ok_or(LookupError::NotFound)?;
    let addresses = match gate.lookup(hostname.clone(), port).await {
        Ok(addresses) => addresses,
        Err(LookupFailure::NotFound) => return Err(LookupError::NotFound),
        Err(LookupFailure::Refused(text)) => {
            // Node's error has a code and no text.
            warn(&state.borrow(), &text);
            return Err(LookupError::Refused(text));
        }
    };
    let wanted = |ip: &IpAddr| match family {
        4 => ip.is_ipv4(),
        6 => ip.is_ipv6(),
        _ => true,
    };
    let resolved_ips = addresses.iter().filter(|ip| wanted(ip)).map(ToString::to_string).collect();
    Ok(NetPermToken { hostname, port, resolved_ips })
}

fn warn(state: &OpState, text: &str) {
    let Some(host) = host(state) else { return };
    host.log.write(LogRecord {
        time: std::time::SystemTime::now(),
        level: Level::Warn,
        app: host.app.clone(),
        deployment: host.deployment.clone(),
        request: None,
        message: text.to_owned(),
    });
}

/// Methods of Node's handles that apps do not have. `open` takes over a file descriptor of
/// the process, whoever it belongs to.
const REFUSED: &[(&str, &[&str])] = &[
    ("TCPWrap", &["open", "openFromRid", "fdForIpc", "bind", "bindWithFlags", "bind6", "listen"]),
    ("PipeWrap", &["open", "fdForIpc", "bind", "listen", "connect", "fchmod"]),
];
/// Handles that apps cannot even make.
const NO_HANDLE: &[&str] = &["TTY", "WasiContext"];

fn without(decl: &OpMethodDecl) -> OpMethodDecl {
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

struct Handles(Vec<OpMethodDecl>);

// SAFETY: a declaration is made of function pointers and of pointers to tables that live as
// long as the process and that nobody writes to; it is the same on every thread.
unsafe impl Send for Handles {}
// SAFETY: as above.
unsafe impl Sync for Handles {}

/// Takes from Node's extension what is not for apps.
pub fn harden(mut node: Extension) -> Extension {
    static HANDLES: OnceLock<Handles> = OnceLock::new();
    let handles = HANDLES.get_or_init(|| Handles(node.objects.iter().map(without).collect()));
    node.objects = handles.0.as_slice().into();
    node
}
