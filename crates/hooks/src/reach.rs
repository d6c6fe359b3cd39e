//! Which addresses a delivery may reach. An endpoint's name is looked up anew for each connection, and the connection goes
//! to an address that was judged here: a name that leads elsewhere later leads nowhere.

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use tower::Service;
use url::Host;

/// What is allowed besides the public Internet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// This machine.
    pub loopback: bool,
    /// Networks that are not public, this machine included.
    pub private: bool,
}

impl Reach {
    pub fn allows(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.private || (self.loopback && address.is_loopback())
    }

    /// Of a URL's host, as far as it is an address.
    pub fn allows_host(self, host: &Host<&str>) -> bool {
        match host {
            Host::Ipv4(address) => self.allows((*address).into()),
            Host::Ipv6(address) => self.allows((*address).into()),
            Host::Domain(_) => true,
        }
    }
}

/// This machine by its text. Names below `localhost` are loopback by RFC 6761, but not every resolver knows.
pub(crate) fn is_loopback_host(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).to_canonical().is_loopback(),
    }
}

/// IANA's special-purpose registries: what is not globally reachable, and what carries another address inside.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is given out at all.
    let global = a & 0xe000 == 0x2000;
    let special = matches!(
        (a, b),
        // Protocol assignments with Teredo, documentation, and 6to4.
        (0x2001, 0..=0x01ff | 0x0db8) | (0x2002, _) | (0x3fff, 0..=0x0fff)
    );
    global && !special
}

/// Looks names up and leaves out addresses that must not be reached.
#[derive(Clone)]
pub(crate) struct Resolver {
    reach: Reach,
    inner: GaiResolver,
}

impl Resolver {
    pub fn new(reach: Reach) -> Resolver {
        Resolver { reach, inner: GaiResolver::new() }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (reach, found) = (self.reach, self.inner.call(name));
        Box::pin(async move {
            let all: Vec<SocketAddr> = found.await?.collect();
            let allowed: Vec<SocketAddr> =
                all.iter().copied().filter(|address| reach.allows(address.ip())).collect();
            match (allowed.is_empty(), all.first()) {
                (true, Some(_)) => Err(io::Error::other(NOT_ALLOWED)),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}

/// Says no address: who may add endpoints need not learn how the network inside is laid out.
pub(crate) const NOT_ALLOWED: &str =
    "the address is not on the public Internet; `[hooks] allow_private = true` allows it";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_the_public_internet_is_reached_in_every_spelling() {
        let public = Reach::default();
        for text in
            ["8.8.8.8", "93.184.216.34", "100.63.255.255", "172.32.0.1", "192.0.1.1", "2606:4700::1111"]
        {
            assert!(public.allows(ip(text)), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!public.allows(ip(text)), "{text}");
            assert!(Reach { private: true, loopback: false }.allows(ip(text)), "{text}");
        }
    }

    #[test]
    fn loopback_alone_can_be_allowed() {
        let own = Reach { loopback: true, private: false };
        assert!(own.allows(ip("127.0.0.1")) && own.allows(ip("::1")) && own.allows(ip("::ffff:127.0.0.1")));
        assert!(!own.allows(ip("10.0.0.1")) && !own.allows(ip("169.254.169.254")));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_leads_nowhere() {
        let look = |reach| async move {
            let name: Name = "localhost".parse().unwrap();
            Resolver::new(reach).call(name).await.map(|found| found.count())
        };
        let refused = look(Reach::default()).await.unwrap_err();
        assert_eq!(refused.to_string(), NOT_ALLOWED);
        assert!(look(Reach { loopback: true, private: false }).await.unwrap() > 0);
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_judged_as_what_it_maps(octets in any::<[u8; 4]>()) {
            let plain = Ipv4Addr::from(octets);
            let mapped = IpAddr::V6(plain.to_ipv6_mapped());
            prop_assert_eq!(Reach::default().allows(mapped), Reach::default().allows(plain.into()));
        }
    }
}
