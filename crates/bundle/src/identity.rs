//! A deployment's name is a digest of its content: same input, same id, whatever the order.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use verge_types::{Deployment, DeploymentId, Limit, Limits};

/// Changes when the same content would be run differently.
const FORMAT: &str = "verge-deployment-1";

/// The id of a deployment's content; its `id` field is not looked at.
///
/// Paths of this machine do not count: assets count by their names and hashes.
pub fn deployment_id(
    deployment: &Deployment,
    limits: &Limits,
    assets: &BTreeMap<String, [u8; 32]>,
) -> DeploymentId {
    let mut hash = Fields(Sha256::new());
    hash.text(FORMAT);
    hash.text(deployment.main.as_deref().unwrap_or(""));
    hash.text(&deployment.compatibility_date);
    hash.list(&deployment.compatibility_flags);
    hash.list(&deployment.crons);
    hash.number(Limit::ALL.len());
    for limit in Limit::ALL {
        hash.text(limit.spec().key);
        hash.bytes(&limits.get(*limit).to_le_bytes());
    }
    hash.number(deployment.bindings.len());
    for (name, binding) in &deployment.bindings {
        hash.text(name);
        // Keys of JSON objects come sorted.
        hash.text(&serde_json::to_value(binding).unwrap_or_default().to_string());
    }
    let mut modules: Vec<_> = deployment.modules.iter().collect();
    modules.sort_by(|a, b| a.path.cmp(&b.path));
    hash.number(modules.len());
    for module in modules {
        hash.text(&module.path);
        hash.text(&format!("{:?}", module.kind));
        hash.bytes(&module.source);
        hash.bytes(module.source_map.as_deref().unwrap_or_default());
    }
    match &deployment.assets {
        None => hash.number(0),
        Some(config) => {
            hash.number(1);
            let rest = (config.html_handling, config.not_found_handling, &config.run_worker_first);
            hash.text(&serde_json::to_string(&rest).unwrap_or_default());
            hash.number(assets.len());
            for (path, digest) in assets {
                hash.text(path);
                hash.bytes(digest);
            }
        }
    }
    DeploymentId::from_digest(&hash.0.finalize())
}

/// Every field with its length, so that no two lists of fields give the same bytes.
struct Fields(Sha256);

impl Fields {
    fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn list(&mut self, list: &[String]) {
        let mut sorted: Vec<_> = list.iter().collect();
        sorted.sort();
        self.number(sorted.len());
        sorted.into_iter().for_each(|text| self.text(text));
    }
}
