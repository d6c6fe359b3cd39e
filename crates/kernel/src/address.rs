//! Who is calling: the one function that finds a client's address behind trusted proxies.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Networks whose forwarded headers count.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// The address a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// The client's own address.
    Known(IpAddr),
    /// A trusted proxy or backend that named no client: whom it speaks for is not known.
    Proxy(IpAddr),
}

impl TrustedProxies {
    pub fn new(networks: Vec<IpNet>) -> TrustedProxies {
        TrustedProxies(networks)
    }

    /// Reads `10.0.0.0/8` or a single address.
    pub fn parse(texts: &[String]) -> Result<TrustedProxies, String> {
        let one = |text: &String| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("`{text}` is neither a network such as 10.0.0.0/8 nor an address"))
        };
        texts.iter().map(one).collect::<Result<_, _>>().map(TrustedProxies)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The right-most address of `X-Forwarded-For` that is not a trusted proxy, when the peer is one; everything to
    /// the left of it was written by somebody untrusted. A part that is no address ends the search: what stands
    /// before it cannot be believed either.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    ) -> ClientAddress {
        let mut nearest = canonical(peer);
        if !self.contains(nearest) {
            return ClientAddress::Known(nearest);
        }
        for part in forwarded_for.rev().flat_map(|line| line.rsplit(',')) {
            let Some(address) = parse_forwarded(part.trim()) else { break };
            nearest = address;
            if !self.contains(address) {
                return ClientAddress::Known(address);
            }
        }
        ClientAddress::Proxy(nearest)
    }
}

impl ClientAddress {
    /// What is recorded with a session: empty when only a proxy is known.
    pub fn to_text(self) -> String {
        match self {
            ClientAddress::Known(address) => address.to_string(),
            ClientAddress::Proxy(_) => String::new(),
        }
    }

    /// The address as a counter sees it: an IPv6 client owns its whole /64.
    pub fn bucket(self) -> String {
        let (ClientAddress::Known(address) | ClientAddress::Proxy(address)) = self;
        match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }
    }
}

/// `::ffff:192.0.2.1` is 192.0.2.1.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn parse_forwarded(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address =
        bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies(list: &[&str]) -> TrustedProxies {
        TrustedProxies::parse(&list.iter().map(|s| s.to_string()).collect::<Vec<_>>()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_untrusted_peer_cannot_name_another_address() {
        let found = proxies(&[]).client(ip("192.0.2.7"), ["1.2.3.4"].into_iter());
        assert_eq!(found, ClientAddress::Known(ip("192.0.2.7")));
    }

    #[test]
    fn the_right_most_untrusted_hop_is_the_client() {
        let trusted = proxies(&["127.0.0.1", "10.0.0.0/8"]);
        let found = |lines: &[&str]| trusted.client(ip("127.0.0.1"), lines.iter().copied());
        assert_eq!(found(&["6.6.6.6, 192.0.2.1, 10.1.1.1"]), ClientAddress::Known(ip("192.0.2.1")));
        assert_eq!(found(&["6.6.6.6", "192.0.2.1"]), ClientAddress::Known(ip("192.0.2.1")));
        assert_eq!(found(&["192.0.2.1:4711"]), ClientAddress::Known(ip("192.0.2.1")));
        assert_eq!(found(&["[2001:db8::1]:443"]), ClientAddress::Known(ip("2001:db8::1")));
        assert_eq!(found(&[]), ClientAddress::Proxy(ip("127.0.0.1")));
        assert_eq!(found(&["10.2.2.2"]), ClientAddress::Proxy(ip("10.2.2.2")));
        assert_eq!(found(&["1.2.3.4, unknown"]), ClientAddress::Proxy(ip("127.0.0.1")));
    }

    #[test]
    fn one_network_of_64_bits_is_one_client_in_every_spelling() {
        let bucket = |text: &str| ClientAddress::Known(canonical(ip(text))).bucket();
        assert_eq!(bucket("2001:DB8:0:0::1"), bucket("2001:db8::ffff:1:2:3"));
        assert_ne!(bucket("2001:db8::1"), bucket("2001:db8:0:1::1"));
        assert_eq!(bucket("::ffff:192.0.2.1"), bucket("192.0.2.1"));
    }

    proptest! {
        #[test]
        fn no_header_moves_the_address_past_an_untrusted_peer(header in "\\PC{0,80}", last in any::<[u8; 4]>()) {
            let peer = IpAddr::from(last);
            prop_assume!(!proxies(&["127.0.0.0/8"]).contains(peer));
            let found = proxies(&["127.0.0.0/8"]).client(peer, [header.as_str()].into_iter());
            prop_assert_eq!(found, ClientAddress::Known(peer));
        }
    }
}
