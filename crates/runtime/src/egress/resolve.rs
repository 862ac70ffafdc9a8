//! The resolver of outbound connections: what it does not let through, nobody connects to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use deno_fetch::dns::{Resolve, Resolver, Resolving};
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;
use verge_engine::LookupFailure;

use super::{Policy, refusal};

/// For `fetch` and WebSockets. Deno connects to what it gives out, without asking again.
#[derive(Debug)]
struct Judged(Arc<Policy>);

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let addresses = policy.resolve(name.as_str()).await?;
            if addresses.is_empty() {
                let refused = refusal(name.as_str(), None);
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused));
            }
            let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(addresses.collect::<Vec<_>>().into_iter())
        })
    }
}

impl Policy {
    pub fn resolver(self: &Arc<Self>) -> Resolver {
        Resolver::custom(Arc::new(Judged(self.clone())))
    }

    /// The addresses of `name` that may be connected to: none if all of them are refused.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let asked = Name::from_str(name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let answer = self.resolver.clone().call(asked).await?;
        Ok(answer.map(|at| at.ip()).filter(|ip| self.answer(name, *ip)).collect())
    }

    /// For `node:dns` and the sockets of `node:net`.
    pub(super) async fn look_up(
        &self,
        host: &str,
        port: Option<u16>,
    ) -> Result<Vec<IpAddr>, LookupFailure> {
        let refused = || LookupFailure::Refused(refusal(host, port));
        if let Ok(address) = host.parse::<IpAddr>() {
            // No connection yet: the socket is judged with its port.
            return Ok(vec![address]);
        }
        if port.is_some_and(|port| !self.name(host, port)) {
            return Err(refused());
        }
        let addresses = self.resolve(host).await.map_err(|_| LookupFailure::NotFound)?;
        if addresses.is_empty() {
            return Err(refused());
        }
        if let Some(port) = port
            && self.allowed.is_named(&super::plain_name(host))
        {
            self.grant(&addresses, port);
        }
        Ok(addresses)
    }
}
