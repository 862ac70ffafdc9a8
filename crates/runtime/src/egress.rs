//! Where apps may connect to: anywhere on the public internet, nowhere inside.
//!
//! The decision is made on the *resolved* address, by Deno's connectors, for each attempt and
//! each hop; a name that resolves differently the second time is judged the second time.

use std::sync::Arc;

use deno_permissions::{
    Permissions, PermissionsContainer, PermissionsOptions, RuntimePermissionDescriptorParser,
};
use sys_traits::impls::RealSys;

/// Networks no app may reach: not this host, not what is around it.
const FORBIDDEN: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// The addresses an app may reach.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// `host:port` pairs inside that are allowed all the same. For development only.
    pub allow: Vec<String>,
}

/// Why a policy could not be made.
#[derive(Debug, thiserror::Error)]
#[error("egress: {0}")]
pub struct EgressError(String);

impl Egress {
    /// The policy as Deno's permissions: everything but the network is denied.
    pub(crate) fn permissions(&self) -> Result<PermissionsContainer, EgressError> {
        let parser = Arc::new(RuntimePermissionDescriptorParser::new(RealSys));
        let options = PermissionsOptions {
            allow_net: Some(Vec::new()),
            deny_net: Some(FORBIDDEN.iter().map(|net| (*net).to_owned()).collect()),
            prompt: false,
            ..Default::default()
        };
        let permissions = Permissions::from_options(&*parser, &options)
            .map_err(|error| EgressError(error.to_string()))?;
        Ok(PermissionsContainer::new(parser, permissions))
    }
}
