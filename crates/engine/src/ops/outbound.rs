//! Sockets of `node:net`, held to where apps may connect to.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::{OpState, op2};
use deno_net::ops::NetPermToken;
use verge_telemetry::{Level, LogRecord};

use super::host;
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
