//! The policy as Deno's permissions.

use std::borrow::Cow;
use std::sync::Arc;

use deno_core::url::{Host, Url};
use deno_permissions::{
    AllowRunDescriptorParseResult, DenyRunDescriptor, EnvDescriptor, EnvDescriptorParseError,
    FfiDescriptor, Host as Place, HostParseError, ImportDescriptor, NetDescriptor,
    NetDescriptorFromUrlParseError, NetDescriptorParseError, PathQueryDescriptor, PathResolveError,
    PermissionDescriptorParser, Permissions, PermissionsContainer, PermissionsOptions,
    ReadDescriptor, RunDescriptorParseError, RunQueryDescriptor, RuntimePermissionDescriptorParser,
    SpecialFilePathQueryDescriptor, SysDescriptor, SysDescriptorParseError, WriteDescriptor,
};
use sys_traits::impls::RealSys;

use super::{Policy, refusal};

/// Everything but the network is denied, and of the network what is inside.
pub(super) fn container(policy: Arc<Policy>) -> Result<PermissionsContainer, String> {
    let denied = policy.denied_ranges().iter().map(ToString::to_string).collect();
    let parser = RuntimePermissionDescriptorParser::new(RealSys);
    let judge = Arc::new(UrlJudge { policy, parser });
    let options = PermissionsOptions {
        allow_net: Some(Vec::new()),
        deny_net: Some(denied),
        prompt: false,
        ..Default::default()
    };
    let permissions =
        Permissions::from_options(&*judge, &options).map_err(|error| error.to_string())?;
    Ok(PermissionsContainer::new(judge, permissions))
}

/// Deno asks the parser for each URL that is about to be fetched, redirects included: the
/// one place where a URL is seen whole before its name is looked up.
#[derive(Debug)]
struct UrlJudge {
    policy: Arc<Policy>,
    parser: RuntimePermissionDescriptorParser<RealSys>,
}

impl UrlJudge {
    fn judge(&self, url: &Url) -> Result<(), String> {
        let Some(port) = url.port_or_known_default() else {
            return Err(format!("outbound connection refused: `{}:` has no port", url.scheme()));
        };
        let (good, host) = match url.host() {
            Some(Host::Domain(name)) => (self.policy.name(name, port), name.to_owned()),
            Some(Host::Ipv4(ip)) => (self.policy.address(ip.into(), port), ip.to_string()),
            Some(Host::Ipv6(ip)) => (self.policy.address(ip.into(), port), ip.to_string()),
            None => (false, String::new()),
        };
        if good { Ok(()) } else { Err(refusal(&host, Some(port))) }
    }
}

impl PermissionDescriptorParser for UrlJudge {
    fn parse_net_descriptor_from_url(
        &self,
        url: &Url,
    ) -> Result<NetDescriptor, NetDescriptorFromUrlParseError> {
        self.judge(url).map_err(HostParseError::InvalidHost)?;
        NetDescriptor::from_url(url)
    }

    fn parse_read_descriptor(&self, text: &str) -> Result<ReadDescriptor, PathResolveError> {
        self.parser.parse_read_descriptor(text)
    }

    fn parse_write_descriptor(&self, text: &str) -> Result<WriteDescriptor, PathResolveError> {
        self.parser.parse_write_descriptor(text)
    }

    fn parse_net_descriptor(&self, text: &str) -> Result<NetDescriptor, NetDescriptorParseError> {
        // Deno's own parser takes no IPv6 ranges.
        match text.parse() {
            Ok(range) => Ok(NetDescriptor(Place::IpSubnet(range), None)),
            Err(_) => self.parser.parse_net_descriptor(text),
        }
    }

    fn parse_import_descriptor(
        &self,
        text: &str,
    ) -> Result<ImportDescriptor, NetDescriptorParseError> {
        self.parser.parse_import_descriptor(text)
    }

    fn parse_env_descriptor(&self, text: &str) -> Result<EnvDescriptor, EnvDescriptorParseError> {
        self.parser.parse_env_descriptor(text)
    }

    fn parse_sys_descriptor(&self, text: &str) -> Result<SysDescriptor, SysDescriptorParseError> {
        self.parser.parse_sys_descriptor(text)
    }

    fn parse_allow_run_descriptor(
        &self,
        text: &str,
    ) -> Result<AllowRunDescriptorParseResult, RunDescriptorParseError> {
        self.parser.parse_allow_run_descriptor(text)
    }

    fn parse_deny_run_descriptor(&self, text: &str) -> Result<DenyRunDescriptor, PathResolveError> {
        self.parser.parse_deny_run_descriptor(text)
    }

    fn parse_ffi_descriptor(&self, text: &str) -> Result<FfiDescriptor, PathResolveError> {
        self.parser.parse_ffi_descriptor(text)
    }

    fn parse_path_query<'a>(
        &self,
        path: Cow<'a, std::path::Path>,
    ) -> Result<PathQueryDescriptor<'a>, PathResolveError> {
        self.parser.parse_path_query(path)
    }

    fn parse_special_file_descriptor<'a>(
        &self,
        path: PathQueryDescriptor<'a>,
    ) -> Result<SpecialFilePathQueryDescriptor<'a>, PathResolveError> {
        self.parser.parse_special_file_descriptor(path)
    }

    fn parse_net_query(&self, text: &str) -> Result<NetDescriptor, NetDescriptorParseError> {
        self.parser.parse_net_query(text)
    }

    fn parse_run_query<'a>(
        &self,
        requested: &'a str,
    ) -> Result<RunQueryDescriptor<'a>, RunDescriptorParseError> {
        self.parser.parse_run_query(requested)
    }
}
