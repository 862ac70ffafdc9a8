//! Module loading from a deployment. No file, no network: what is not in the deployment, and
//! is no built-in, does not exist.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::pin::Pin;
use std::sync::Arc;

use deno_core::{
    ModuleLoadOptions, ModuleLoadReferrer, ModuleLoadResponse, ModuleLoader, ModuleResolveResponse,
    ModuleSource, ModuleSourceCode, ModuleSpecifier, ModuleType, RequestedModuleType,
    ResolutionKind, SourceCodeCacheInfo,
};
use deno_error::JsErrorBox;
use rustc_hash::FxHasher;
use verge_engine::Surface;
use verge_engine::stack::ROOT;
use verge_types::{Deployment, Module, ModuleKind};

use crate::code_cache::CodeCache;

/// The engine's module that wrappers of binary modules import.
const MODULE_DATA: &str = "verge:module-data";
/// What they are called inside: only modules of this scheme may import the engine's.
const MODULE_DATA_INSIDE: &str = "node:verge_module_data";
const WORKERS_INSIDE: &str = "node:verge_cloudflare_workers";

/// Loads from whatever deployment claims the isolate.
#[derive(Default)]
pub(crate) struct DeploymentLoader {
    claimed: std::cell::OnceCell<Claimed>,
}

struct Claimed {
    deployment: Arc<Deployment>,
    surface: Surface,
    by_path: HashMap<String, usize>,
    code_cache: Option<Arc<CodeCache>>,
}

impl Claimed {
    fn module(&self, specifier: &str) -> Option<&Module> {
        let path = specifier.strip_prefix(ROOT)?;
        self.by_path.get(path).map(|index| &self.deployment.modules[*index])
    }
}

/// The URL of a module of the deployment.
pub(crate) fn url_of(path: &str) -> Result<ModuleSpecifier, JsErrorBox> {
    ModuleSpecifier::parse(ROOT)
        .and_then(|root| root.join(path))
        .map_err(|error| JsErrorBox::type_error(format!("`{path}` is no module path: {error}")))
}

impl DeploymentLoader {
    /// Binds the loader to a deployment. A second call changes nothing.
    pub fn claim(
        &self,
        deployment: Arc<Deployment>,
        surface: Surface,
        code_cache: &Arc<CodeCache>,
    ) {
        let by_path = deployment
            .modules
            .iter()
            .enumerate()
            .filter_map(|(index, module)| {
                let url = url_of(&module.path).ok()?;
                Some((url.as_str().strip_prefix(ROOT)?.to_owned(), index))
            })
            .collect();
        let code_cache = CodeCache::for_isolate(code_cache);
        let _ = self.claimed.set(Claimed { deployment, surface, by_path, code_cache });
    }

    fn code_cache(&self) -> Option<&CodeCache> {
        self.claimed.get()?.code_cache.as_deref()
    }

    fn resolve_builtin(&self, name: &str) -> ModuleResolveResponse {
        match self.claimed.get().map(|claimed| claimed.surface) {
            Some(Surface::Web) => Err(unseen(name)),
            _ => ModuleSpecifier::parse(&format!("node:{name}"))
                .map_err(|error| JsErrorBox::type_error(error.to_string())),
        }
    }

    fn resolve_in_app(&self, specifier: &str, referrer: &str) -> ModuleResolveResponse {
        let claimed = self.claimed.get();
        let base = ModuleSpecifier::parse(referrer)
            .or_else(|_| ModuleSpecifier::parse(ROOT))
            .map_err(|error| JsErrorBox::type_error(error.to_string()))?;
        let url = base
            .join(specifier)
            .map_err(|error| JsErrorBox::type_error(format!("`{specifier}`: {error}")))?;
        match claimed.and_then(|claimed| claimed.module(url.as_str())) {
            Some(_) => Ok(url),
            None => Err(not_found(specifier, referrer)),
        }
    }
}

fn unseen(name: &str) -> JsErrorBox {
    JsErrorBox::type_error(format!(
        "The built-in module \"node:{name}\" is not available in this app: nothing in its sources \
         showed that it would be imported when it was deployed. Name it in a plain import, such \
         as import(\"node:{name}\")"
    ))
}

fn not_found(specifier: &str, referrer: &str) -> JsErrorBox {
    JsErrorBox::type_error(format!(
        "Cannot find module \"{specifier}\" imported from {}: it is not part of the deployment",
        referrer.strip_prefix(ROOT).unwrap_or(referrer)
    ))
}

/// Whether Node has a module of this name, without its `node:`.
pub(crate) fn is_builtin(name: &str) -> bool {
    deno_node::is_builtin_node_module(name)
}

impl ModuleLoader for DeploymentLoader {
    fn resolve(
        &self,
        specifier: &str,
        referrer: &str,
        _kind: ResolutionKind,
    ) -> ModuleResolveResponse {
        let parse = |text: &str| {
            ModuleSpecifier::parse(text).map_err(|error| JsErrorBox::type_error(error.to_string()))
        };
        // The engine's own modules import each other. An app's modules all have `ROOT`'s URLs.
        if ["ext:", "node:", "verge:", "cloudflare:"].iter().any(|own| referrer.starts_with(own)) {
            return parse(specifier);
        }
        let relative = specifier.starts_with("./")
            || specifier.starts_with("../")
            || specifier.starts_with('/')
            || specifier.starts_with(ROOT);
        if relative {
            return self.resolve_in_app(specifier, referrer);
        }
        if let Some(name) = specifier.strip_prefix("node:") {
            if is_builtin(name) {
                return self.resolve_builtin(name);
            }
            return Err(JsErrorBox::type_error(format!(
                "There is no built-in module \"{specifier}\""
            )));
        }
        if is_builtin(specifier) {
            return self.resolve_builtin(specifier);
        }
        if specifier == "cloudflare:workers" {
            return parse(WORKERS_INSIDE);
        }
        let data_module = self
            .claimed
            .get()
            .and_then(|claimed| claimed.module(referrer))
            .is_some_and(|module| matches!(module.kind, ModuleKind::Data | ModuleKind::Wasm));
        if specifier == MODULE_DATA && data_module {
            return parse(MODULE_DATA_INSIDE);
        }
        if specifier.starts_with("cloudflare:") {
            return Err(JsErrorBox::type_error(format!(
                "The module \"{specifier}\" is not available in this version of Verge"
            )));
        }
        // An error here would let the engine fall back to its own internal modules, so these
        // resolve to something that cannot load.
        if specifier.starts_with("ext:") || specifier.starts_with("verge:") {
            return parse("verge-refused:internal");
        }
        Err(not_found(specifier, referrer))
    }

    fn load(
        &self,
        specifier: &ModuleSpecifier,
        referrer: Option<&ModuleLoadReferrer>,
        options: ModuleLoadOptions,
    ) -> ModuleLoadResponse {
        let from = referrer.map_or_else(|| "the app".to_owned(), |r| r.specifier.to_string());
        let Some((claimed, module)) = self
            .claimed
            .get()
            .and_then(|claimed| Some((claimed, claimed.module(specifier.as_str())?)))
        else {
            return ModuleLoadResponse::Sync(Err(not_found(specifier.as_str(), &from)));
        };
        ModuleLoadResponse::Sync(source_of(claimed, module, specifier, &options))
    }

    fn code_cache_ready(
        &self,
        specifier: ModuleSpecifier,
        _hash: u64,
        data: &[u8],
    ) -> Pin<Box<dyn Future<Output = ()>>> {
        if let Some(cache) = self.code_cache() {
            cache.put(specifier.as_str(), data);
        }
        Box::pin(std::future::ready(()))
    }

    fn purge_and_prevent_code_cache(&self, specifier: &str) {
        if let Some(cache) = self.code_cache() {
            cache.remove(specifier);
        }
    }

    fn get_source_map(&self, file_name: &str) -> Option<Cow<'_, [u8]>> {
        let module = self.claimed.get()?.module(file_name)?;
        module.source_map.as_ref().map(|map| Cow::Borrowed(map.as_ref()))
    }

    /// A deployment's source maps name the user's own files, which are not here.
    fn source_map_source_exists(&self, _source_url: &str) -> Option<bool> {
        Some(true)
    }
}

fn source_of(
    claimed: &Claimed,
    module: &Module,
    specifier: &ModuleSpecifier,
    options: &ModuleLoadOptions,
) -> Result<ModuleSource, JsErrorBox> {
    let text = || {
        std::str::from_utf8(&module.source)
            .map_err(|_| JsErrorBox::type_error(format!("`{}` is not UTF-8", module.path)))
    };
    let literal = |text: &str| serde_json::Value::from(text).to_string();
    let code = match module.kind {
        ModuleKind::Esm => text()?.to_owned(),
        ModuleKind::Json if options.requested_module_type == RequestedModuleType::Json => {
            let code = ModuleSourceCode::String(text()?.to_owned().into());
            return Ok(ModuleSource::new(ModuleType::Json, code, specifier, None));
        }
        ModuleKind::Json => format!("export default JSON.parse({});", literal(text()?)),
        ModuleKind::Text => format!("export default {};", literal(text()?)),
        ModuleKind::Data => wrapper("data", &module.path),
        ModuleKind::Wasm => wrapper("wasm", &module.path),
    };
    let cache =
        claimed.code_cache.as_ref().filter(|_| module.kind == ModuleKind::Esm).map(|cache| {
            SourceCodeCacheInfo {
                hash: BuildHasherDefault::<FxHasher>::default().hash_one(&code),
                data: cache.get(specifier.as_str()).map(|data| Cow::Owned(data.to_vec())),
            }
        });
    let code = ModuleSourceCode::String(code.into());
    Ok(ModuleSource::new(ModuleType::JavaScript, code, specifier, cache))
}

fn wrapper(kind: &str, path: &str) -> String {
    let path = serde_json::Value::from(path);
    format!("import {{ {kind} }} from \"{MODULE_DATA}\"; export default {kind}({path});")
}
