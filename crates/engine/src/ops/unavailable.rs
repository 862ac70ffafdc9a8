//! Ops of Deno that would touch the machine, replaced by ones that do not.
//!
//! Permissions already refuse files, processes and the environment. This is the second lock:
//! what would end or change the *process* (exit, signals, terminal) must not depend on a
//! permission's being checked.

use deno_core::{OpDecl, op2};
use deno_error::JsErrorBox;

use super::outbound::op_verge_getaddrinfo;

/// Throws, whatever it stands for.
#[op2(fast)]
pub fn op_verge_unavailable() -> Result<(), JsErrorBox> {
    Err(JsErrorBox::new(
        "NotSupported",
        "not available: apps cannot touch the process, its signals, its terminal or its environment",
    ))
}

/// An environment variable that is not set.
#[op2]
#[string]
pub fn op_verge_env_absent(#[string] _key: &str) -> Option<String> {
    None
}

/// An empty environment.
#[op2]
#[serde]
pub fn op_verge_env_empty() -> std::collections::HashMap<String, String> {
    std::collections::HashMap::new()
}

/// The machine's name servers are its own business.
#[op2]
#[serde]
pub fn op_verge_no_name_servers() -> Vec<(String, u16)> {
    Vec::new()
}

/// Asked for by Node's terminal code; there is no terminal.
#[op2(fast)]
pub fn op_bootstrap_color_depth() -> i32 {
    1
}

#[op2]
#[serde]
pub fn op_bootstrap_unstable_args() -> Vec<String> {
    Vec::new()
}

/// Ops that Node's polyfills import and that Deno's own runtime crate would bring. Each
/// throws with what it would have done.
macro_rules! refused {
    ($($op:ident = $what:literal;)*) => {
        $(
            #[op2(fast)]
            pub fn $op() -> Result<(), JsErrorBox> {
                Err(JsErrorBox::new("NotSupported", concat!($what, " is not available in Verge")))
            }
        )*
    };
}

refused! {
    op_create_worker = "node:worker_threads (starting a thread)";
    op_current_thread_cpu_usage = "process.threadCpuUsage()";
    op_host_terminate_worker = "node:worker_threads (ending a thread)";
    op_http_notify_serving = "listening (node:http servers)";
    op_http_serve_address_override = "listening (node:http servers)";
    op_napi_open = "loading a native addon (.node)";
    op_node_database_backup = "node:sqlite";
    op_node_worker_thread_register = "node:worker_threads";
    op_set_raw = "a terminal";
}

/// The ops above that only Node's polyfills ask for.
pub const FOR_NODE: &[&str] = &[
    "op_bootstrap_color_depth",
    "op_bootstrap_unstable_args",
    "op_create_worker",
    "op_current_thread_cpu_usage",
    "op_host_terminate_worker",
    "op_http_notify_serving",
    "op_http_serve_address_override",
    "op_napi_open",
    "op_node_database_backup",
    "op_node_worker_thread_register",
    "op_set_raw",
];

/// The extension middleware: what each op of every extension passes through.
pub fn replace(op: OpDecl) -> OpDecl {
    match op.name {
        // The process: its end, its signals, its terminal.
        "op_exit"
        | "op_set_env"
        | "op_delete_env"
        | "op_signal_bind"
        | "op_signal_unbind"
        | "op_signal_poll"
        | "op_set_raw"
        | "op_print"
        // Listening.
        | "op_net_listen_tcp"
        | "op_net_listen_tls"
        | "op_net_listen_udp"
        | "op_net_listen_unix"
        | "op_net_listen_unixpacket"
        | "op_net_listen_vsock"
        | "op_net_listen_tunnel"
        | "op_node_unstable_net_listen_udp"
        | "op_node_unstable_net_listen_unixpacket"
        // Connecting past the ways that are judged: by a resolver, a proxy or an address
        // family of their own.
        | "op_fetch_custom_client"
        | "op_net_connect_tcp"
        | "op_net_connect_tls"
        | "op_net_connect_unix"
        | "op_net_connect_vsock"
        // UDP: no app needs it, and an amplifier does.
        | "op_net_send_udp"
        | "op_node_udp_bind"
        | "op_node_udp_open"
        | "op_node_udp_send"
        | "op_node_udp_fd_for_ipc" => op.with_implementation_from(&op_verge_unavailable()),
        "op_net_get_system_dns_servers" => {
            op.with_implementation_from(&op_verge_no_name_servers())
        }
        "op_node_getaddrinfo" => op.with_implementation_from(&op_verge_getaddrinfo()),
        "op_get_env" | "op_get_env_no_permission_check" => {
            op.with_implementation_from(&op_verge_env_absent())
        }
        "op_env" => op.with_implementation_from(&op_verge_env_empty()),
        _ => op,
    }
}
