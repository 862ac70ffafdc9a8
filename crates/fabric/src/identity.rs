//! The fleet's certificate authority and the certificates of its nodes, as files in a folder.
//!
//! A node's certificate carries two DNS names: `<fleet>.fleet.verge` and
//! `<node>.<pop>.node.verge`. Private keys never leave the folder they were made in, and every
//! file is readable by its owner only.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use verge_types::PopName;

use crate::{Error, FleetName, NodeId, Peer};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long an authority is good.
pub const AUTHORITY_DAYS: u32 = 20 * 365;
/// How long a node's certificate is good.
pub const NODE_DAYS: u32 = 5 * 365;
const FLEET_SUFFIX: &str = ".fleet.verge";
const NODE_SUFFIX: &str = ".node.verge";

/// The authority of a fleet, with its private key: kept where certificates are issued, not on
/// the nodes.
pub struct FleetAuthority {
    fleet: FleetName,
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl FleetAuthority {
    /// Makes `ca.pem`, `ca-key.pem` and `fleet` in `folder`; refuses to replace any of them.
    pub fn create(folder: &Path, fleet: &FleetName) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let key = KeyPair::generate().map_err(crypto)?;
        let params = authority_params(fleet);
        let certificate: Certificate = params.self_signed(&key).map_err(crypto)?;
        write_new(&folder.join("ca-key.pem"), &key.serialize_pem())?;
        write_new(&folder.join("ca.pem"), &certificate.pem())?;
        write_new(&folder.join("fleet"), fleet.as_str())?;
        sync_folder(folder)?;
        let issuer = Issuer::new(params, key);
        Ok(Self { fleet: fleet.clone(), issuer, certificate: certificate.pem() })
    }

    /// Reads what [`Self::create`] wrote.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let fleet: FleetName = read(&folder.join("fleet"))?
            .trim()
            .parse()
            .map_err(|error| Error::Config(format!("{}: {error}", folder.display())))?;
        let key = KeyPair::from_pem(&read(&folder.join("ca-key.pem"))?).map_err(crypto)?;
        let certificate = read(&folder.join("ca.pem"))?;
        let issuer = Issuer::new(authority_params(&fleet), key);
        Ok(Self { fleet, issuer, certificate })
    }

    pub fn fleet(&self) -> &FleetName {
        &self.fleet
    }

    /// Makes `<node>.pem` and `<node>-key.pem` in `folder`, and `ca.pem` unless it is there;
    /// refuses to replace a node's files.
    pub fn issue(
        &self,
        node: &NodeId,
        pop: &PopName,
        folder: &Path,
    ) -> Result<NodeIdentity, Error> {
        fs::create_dir_all(folder).map_err(at(folder))?;
        let key = KeyPair::generate().map_err(crypto)?;
        let names =
            vec![format!("{}{FLEET_SUFFIX}", self.fleet), format!("{node}.{pop}{NODE_SUFFIX}")];
        let mut params = CertificateParams::new(names).map_err(crypto)?;
        params.distinguished_name = common_name(&format!("{node} of fleet {}", self.fleet));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        valid_for(&mut params, NODE_DAYS);
        let certificate = params.signed_by(&key, &self.issuer).map_err(crypto)?;
        let authority = folder.join("ca.pem");
        if !authority.exists() {
            write_new(&authority, &self.certificate)?;
        } else if read(&authority)? != self.certificate {
            return Err(Error::Config(format!(
                "{} is another fleet's authority",
                authority.display()
            )));
        }
        write_new(&key_path(folder, node), &key.serialize_pem())?;
        write_new(&certificate_path(folder, node), &certificate.pem())?;
        sync_folder(folder)?;
        NodeIdentity::load(folder, node)
    }
}

/// What a node proves itself with.
pub struct NodeIdentity {
    fleet: FleetName,
    peer: Peer,
    pub(crate) authority: CertificateDer<'static>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl NodeIdentity {
    /// Reads `ca.pem`, `<node>.pem` and `<node>-key.pem` of a folder.
    pub fn load(folder: &Path, node: &NodeId) -> Result<Self, Error> {
        let path = certificate_path(folder, node);
        let certificate = pem::<CertificateDer>(&path)?;
        let authority = pem::<CertificateDer>(&folder.join("ca.pem"))?;
        let key = pem::<PrivateKeyDer>(&key_path(folder, node))?;
        let (fleet, peer) = names_in(&certificate)
            .map_err(|why| Error::Config(format!("{}: {why}", path.display())))?;
        if peer.node != *node {
            return Err(Error::Config(format!("{} is of {}", path.display(), peer.node)));
        }
        Ok(Self { fleet, peer, authority, certificate, key })
    }

    pub fn fleet(&self) -> &FleetName {
        &self.fleet
    }

    pub fn node(&self) -> &NodeId {
        &self.peer.node
    }

    pub fn pop(&self) -> &PopName {
        &self.peer.pop
    }
}

impl Clone for NodeIdentity {
    fn clone(&self) -> Self {
        Self {
            fleet: self.fleet.clone(),
            peer: self.peer.clone(),
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeIdentity({} in fleet {})", self.peer, self.fleet)
    }
}

/// The DNS name by which a fleet's nodes are checked.
pub(crate) fn fleet_name(fleet: &FleetName) -> String {
    format!("{fleet}{FLEET_SUFFIX}")
}

/// Whose certificate is this? Says nothing about who signed it.
pub(crate) fn names_in(certificate: &CertificateDer<'_>) -> Result<(FleetName, Peer), String> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
    let (mut fleet, mut peer) = (None, None);
    for name in parsed.valid_dns_names() {
        if let Some(name) = name.strip_suffix(FLEET_SUFFIX) {
            fleet = Some(name.parse().map_err(|error| format!("{error}"))?);
        } else if let Some((node, pop)) =
            name.strip_suffix(NODE_SUFFIX).and_then(|name| name.split_once('.'))
        {
            let node = node.parse().map_err(|error| format!("{error}"))?;
            peer = Some(Peer { node, pop: pop.parse().map_err(|error| format!("{error}"))? });
        }
    }
    match (fleet, peer) {
        (Some(fleet), Some(peer)) => Ok((fleet, peer)),
        _ => Err("this is not a certificate of a Verge node".to_owned()),
    }
}

fn authority_params(fleet: &FleetName) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("Verge fleet {fleet}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, AUTHORITY_DAYS);
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// From yesterday, so that clocks may differ a little.
fn valid_for(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + now + DAY * days;
}

fn certificate_path(folder: &Path, node: &NodeId) -> PathBuf {
    folder.join(format!("{node}.pem"))
}

fn key_path(folder: &Path, node: &NodeId) -> PathBuf {
    folder.join(format!("{node}-key.pem"))
}

fn pem<T: PemObject>(path: &Path) -> Result<T, Error> {
    T::from_pem_slice(read(path)?.as_bytes())
        .map_err(|error| Error::Config(format!("{}: {error}", path.display())))
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(at(path))
}

fn write_new(path: &Path, text: &str) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(at(path))
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::io(path.display().to_string(), error)
}

fn crypto(error: rcgen::Error) -> Error {
    Error::Config(format!("making a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_authority_issues_after_a_restart_and_files_are_private() {
        let folder = tempfile::tempdir().unwrap();
        let (fleet, node): (FleetName, NodeId) =
            ("acme".parse().unwrap(), "iad-1".parse().unwrap());
        FleetAuthority::create(folder.path(), &fleet).unwrap();
        let identity = FleetAuthority::load(folder.path())
            .unwrap()
            .issue(&node, &"iad".parse().unwrap(), folder.path())
            .unwrap();
        assert_eq!((identity.fleet(), identity.node()), (&fleet, &node));
        assert_eq!(identity.pop().as_str(), "iad");
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }

    #[test]
    fn nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let fleet: FleetName = "acme".parse().unwrap();
        let authority = FleetAuthority::create(folder.path(), &fleet).unwrap();
        assert!(FleetAuthority::create(folder.path(), &fleet).is_err());
        let (node, pop) = ("a".parse().unwrap(), "iad".parse().unwrap());
        authority.issue(&node, &pop, folder.path()).unwrap();
        assert!(authority.issue(&node, &pop, folder.path()).is_err());
    }
}
