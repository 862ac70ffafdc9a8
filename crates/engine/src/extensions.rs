//! The lists of extensions, one for each [`Surface`]. Their order is part of the snapshots'
//! format: a snapshot and every isolate made from it must agree, which is why both come from
//! here.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::url::Url;
use deno_core::{Extension, JsRuntime};
use deno_permissions::PermissionsContainer;
use node_resolver::errors::PackageFolderResolveError;
use node_resolver::{InNpmPackageChecker, NpmPackageFolderResolver, UrlOrPathRef};
use sys_traits::impls::RealSys;

use crate::ops::respond::SharedState;
use crate::ops::{
    digest, html_rewriter, log, modules, outbound, request, respond, services, sql,
    sql_transaction, unavailable, websocket,
};
use crate::{Exchanges, Outbound, trim};

deno_core::extension!(
    verge_engine,
    deps = [deno_webidl, deno_web, deno_fetch, deno_websocket, deno_crypto, deno_node],
    ops = [
        digest::op_verge_digest_finish,
        digest::op_verge_digest_new,
        digest::op_verge_digest_update,
        html_rewriter::op_verge_html_attribute,
        html_rewriter::op_verge_html_attributes,
        html_rewriter::op_verge_html_check,
        html_rewriter::op_verge_html_end,
        html_rewriter::op_verge_html_identifiers,
        html_rewriter::op_verge_html_insert,
        html_rewriter::op_verge_html_is_last,
        html_rewriter::op_verge_html_is_removed,
        html_rewriter::op_verge_html_name,
        html_rewriter::op_verge_html_namespace,
        html_rewriter::op_verge_html_new,
        html_rewriter::op_verge_html_on_end_tag,
        html_rewriter::op_verge_html_output,
        html_rewriter::op_verge_html_remove,
        html_rewriter::op_verge_html_remove_attribute,
        html_rewriter::op_verge_html_resume,
        html_rewriter::op_verge_html_set_attribute,
        html_rewriter::op_verge_html_set_name,
        html_rewriter::op_verge_html_set_text,
        html_rewriter::op_verge_html_text,
        html_rewriter::op_verge_html_write,
        log::op_verge_log,
        modules::op_verge_module_data,
        modules::op_verge_wasm_module,
        outbound::op_verge_getaddrinfo,
        outbound::op_verge_socket_refusal,
        request::op_verge_remote_addr,
        request::op_verge_request_body_bytes,
        request::op_verge_request_body_stream,
        request::op_verge_request_cancelled,
        request::op_verge_request_cf,
        request::op_verge_request_header,
        request::op_verge_request_headers,
        request::op_verge_request_method,
        request::op_verge_request_url,
        respond::op_verge_event_done,
        respond::op_verge_fail,
        respond::op_verge_hold,
        respond::op_verge_pass_through,
        respond::op_verge_release,
        respond::op_verge_respond_bytes,
        respond::op_verge_respond_empty,
        respond::op_verge_respond_stream,
        respond::op_verge_respond_text,
        services::op_verge_service_fetch,
        services::op_verge_service_rpc,
        services::op_verge_subrequest,
        sql::op_verge_sql_batch,
        sql::op_verge_sql_bookmark,
        sql::op_verge_sql_dump,
        sql::op_verge_sql_exec,
        sql::op_verge_sql_open,
        sql::op_verge_sql_query,
        sql::op_verge_sql_query_now,
        sql::op_verge_sql_session,
        sql_transaction::op_verge_sql_begin,
        sql_transaction::op_verge_sql_commit,
        sql_transaction::op_verge_sql_cursor,
        sql_transaction::op_verge_sql_cursor_next,
        sql_transaction::op_verge_sql_rollback,
        sql_transaction::op_verge_sql_transact,
        websocket::op_verge_ws_accept,
        websocket::op_verge_ws_close,
        websocket::op_verge_ws_next,
        websocket::op_verge_ws_send,
        unavailable::op_bootstrap_color_depth,
        unavailable::op_bootstrap_unstable_args,
        unavailable::op_create_worker,
        unavailable::op_current_thread_cpu_usage,
        unavailable::op_host_terminate_worker,
        unavailable::op_http_notify_serving,
        unavailable::op_http_serve_address_override,
        unavailable::op_napi_open,
        unavailable::op_node_database_backup,
        unavailable::op_node_worker_thread_register,
        unavailable::op_set_raw,
        unavailable::op_verge_unavailable,
        unavailable::op_verge_env_absent,
        unavailable::op_verge_env_empty,
    ],
    esm_entry_point = "ext:verge_engine/main.js",
    esm = [
        dir "../../js/runtime",
        "app.js",
        "console.js",
        "context.js",
        "deno_namespace.js",
        "errors.js",
        "execution_context.js",
        "globals.js",
        "incoming.js",
        "main.js",
        "node_host.js",
        "outbound.js",
        "respond.js",
        "services.js",
        "sql_database.js",
        "websocket_pair.js",
        "workers_crypto.js",
    ],
    lazy_loaded_esm = [
        dir "../../js/runtime",
        "digest_stream.js",
        "html_rewriter.js",
        "node:verge_cloudflare_workers" = "cloudflare_workers.js",
        "node:verge_module_data" = "module_data.js",
    ],
    middleware = unavailable::replace,
    state = |state| {
        state.put(Exchanges::default());
        // Deno's own is there already, unless the snapshot is being made.
        if !state.has::<deno_web::StartTime>() {
            state.put(deno_web::StartTime::default());
        }
    },
);

/// There are no npm packages at run time: the bundler has put them into the modules.
#[derive(Debug)]
struct NoPackages;

impl InNpmPackageChecker for NoPackages {
    fn in_npm_package(&self, _specifier: &Url) -> bool {
        false
    }
}

impl NpmPackageFolderResolver for NoPackages {
    fn resolve_package_folder_from_package(
        &self,
        specifier: &str,
        _referrer: &UrlOrPathRef,
    ) -> Result<PathBuf, PackageFolderResolveError> {
        Err(node_resolver::errors::PackageFolderResolveErrorKind::PackageNotFound(
            node_resolver::errors::PackageNotFoundError {
                package_name: specifier.to_owned(),
                referrer: node_resolver::UrlOrPath::Path(PathBuf::from("/")),
                referrer_extra: None,
            },
        )
        .into())
    }

    fn resolve_types_package_folder(
        &self,
        _types_package_name: &str,
        _maybe_package_version: Option<&deno_semver::Version>,
        _maybe_referrer: Option<&UrlOrPathRef>,
    ) -> Option<PathBuf> {
        None
    }
}

/// What differs between isolates when their extensions are made.
pub struct Engine {
    pub permissions: PermissionsContainer,
    pub resolver: deno_fetch::dns::Resolver,
    pub roots: Option<Arc<dyn deno_tls::RootCertStoreProvider>>,
    pub blobs: Arc<dyn deno_web::BlobStoreTrait>,
}

/// Which built-ins an isolate has. What is not in its snapshot need not be made with it: more
/// than half of all ops, of which each is five objects of the heap, serve Node's modules only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// The APIs of the web and of Workers.
    Web,
    /// The same, and Node's modules.
    Node,
}

/// The extensions for the snapshot's build script: JavaScript is evaluated, no state is made.
pub fn for_snapshot(surface: Surface) -> Vec<Extension> {
    let mut list = vec![
        trim::telemetry(deno_telemetry::deno_telemetry::lazy_init()),
        deno_webidl::deno_webidl::lazy_init(),
        trim::web(deno_web::deno_web::lazy_init(), surface),
        deno_fetch::deno_fetch::lazy_init(),
        deno_websocket::deno_websocket::lazy_init(),
        deno_crypto::deno_crypto::lazy_init(),
        trim::net(deno_net::deno_net::lazy_init(), surface),
        deno_tls::deno_tls::lazy_init(),
    ];
    if surface == Surface::Node {
        list.extend([
            deno_io::deno_io::lazy_init(),
            deno_fs::deno_fs::lazy_init(),
            deno_os::deno_os::lazy_init(),
            deno_process::deno_process::lazy_init(),
            deno_node_crypto::deno_node_crypto::lazy_init(),
            trim::node(deno_node::deno_node::lazy_init::<NoPackages, NoPackages, RealSys>()),
        ]);
    }
    list.push(trim::verge(verge_engine::init(), surface));
    list
}

/// The extensions for an isolate made from the snapshot of the same surface.
pub fn for_runtime(engine: &Engine, surface: Surface) -> Vec<Extension> {
    let fetch = deno_fetch::Options {
        user_agent: concat!("verge/", env!("CARGO_PKG_VERSION")).to_owned(),
        root_cert_store_provider: engine.roots.clone(),
        resolver: engine.resolver.clone(),
        ..Default::default()
    };
    let mut list = vec![
        trim::telemetry(deno_telemetry::deno_telemetry::init()),
        deno_webidl::deno_webidl::init(),
        trim::web(
            deno_web::deno_web::init(
                engine.blobs.clone(),
                None,
                false,
                deno_web::InMemoryBroadcastChannel::default(),
            ),
            surface,
        ),
        deno_fetch::deno_fetch::init(fetch),
        deno_websocket::deno_websocket::init(),
        deno_crypto::deno_crypto::init(None),
        trim::net(deno_net::deno_net::init(engine.roots.clone(), None), surface),
        deno_tls::deno_tls::init(),
    ];
    if surface == Surface::Node {
        let fs: deno_fs::FileSystemRc = Rc::new(deno_fs::RealFs);
        list.extend([
            deno_io::deno_io::init(None),
            deno_fs::deno_fs::init(fs.clone()),
            deno_os::deno_os::init(None),
            deno_process::deno_process::init(None),
            deno_node_crypto::deno_node_crypto::init(),
            trim::node(deno_node::deno_node::init::<NoPackages, NoPackages, RealSys>(None, fs)),
        ]);
    }
    list.push(trim::verge(verge_engine::init(), surface));
    list
}

/// Puts what the ops need into a fresh isolate's state.
pub fn prepare(
    runtime: &mut JsRuntime,
    permissions: PermissionsContainer,
    outbound: Arc<dyn Outbound>,
) {
    let op_state = runtime.op_state();
    let shared = Rc::new(RefCell::new(SharedState(op_state.clone())));
    let mut state = op_state.borrow_mut();
    state.put(permissions);
    state.put(outbound);
    state.put(shared);
}
