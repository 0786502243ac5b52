//! Which addresses are internal: calls between them are judged, the rest is left alone.

use std::{
    collections::HashSet,
    fs,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// What counts as internal unless configured otherwise: loopback, RFC 1918, shared address space (RFC 6598), link-local
/// (RFC 3927, RFC 4291), unique local (RFC 4193).
pub const DEFAULT_NETWORKS: [&str; 9] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "::1/128",
    "fe80::/10",
    "fc00::/7",
];

/// Most of an address table of procfs that is read, bytes.
const TABLE_MAX: u64 = 16 << 20;
/// Most addresses of the node that are kept.
const NODE_ADDRESSES_MAX: usize = 4096;

/// A set of internal networks; looking an address up takes a few comparisons, however many networks there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InternalNetworks {
    /// Disjoint, sorted ranges, both ends inside.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
    node: HashSet<IpAddr>,
}

impl InternalNetworks {
    /// These networks and the node's own addresses, see [`node_addresses`]. IPv4-mapped networks count as IPv4.
    #[must_use]
    pub fn new(networks: Vec<IpNet>, node_addresses: Vec<IpAddr>) -> Self {
        let node: HashSet<_> = node_addresses.into_iter().map(|address| address.to_canonical()).collect();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks.into_iter().chain(node.iter().copied().map(IpNet::from)) {
            match (network.network(), network.broadcast()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                (IpAddr::V6(first), IpAddr::V6(last)) => match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                    (Some(first), Some(last)) => v4.push((first.to_bits(), last.to_bits())),
                    _ => v6.push((first.to_bits(), last.to_bits())),
                },
                _ => {}
            }
        }
        Self { v4: disjoint(v4), v6: disjoint(v6), node }
    }

    /// The same networks on a node with these addresses, which are not internal by being the node's own.
    #[must_use]
    pub fn with_node(mut self, addresses: Vec<IpAddr>) -> Self {
        self.node.extend(addresses.into_iter().map(|address| address.to_canonical()));
        self
    }

    /// Whether an address is internal. IPv4-mapped addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }

    /// Whether the address is one of the node itself.
    #[must_use]
    pub fn is_node(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || self.node.contains(&address)
    }
}

impl Default for InternalNetworks {
    /// [`DEFAULT_NETWORKS`], without the node's own addresses.
    fn default() -> Self {
        Self::new(DEFAULT_NETWORKS.iter().filter_map(|network| network.parse().ok()).collect(), Vec::new())
    }
}

/// The node's own addresses, as this process's network namespace has them.
///
/// # Errors
/// When procfs cannot be read. A machine without IPv6 is no error.
pub fn node_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses = local_v4(&read("/proc/self/net/fib_trie")?);
    match read("/proc/self/net/if_inet6") {
        Ok(text) => addresses.extend(local_v6(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(NODE_ADDRESSES_MAX);
    Ok(addresses)
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(TABLE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The local addresses of a forwarding table: `|-- ADDRESS` followed by `/32 host LOCAL` (`net/ipv4/fib_trie.c`).
fn local_v4(fib_trie: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            addresses.extend(leaf.take().map(IpAddr::V4));
        }
    }
    addresses
}

/// The addresses of `if_inet6`: 32 hexadecimal digits, then fields of no interest (`net/ipv6/addrconf.c`).
fn local_v6(if_inet6: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let digits = line.split_ascii_whitespace().next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
    };
    if_inet6.lines().filter_map(address).collect()
}

fn disjoint<T: Copy + Ord>(mut ranges: Vec<(T, T)>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], value: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= value);
    ranges[..after].last().is_some_and(|(_, last)| value <= *last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn defaults() {
        let networks = InternalNetworks::default();
        let inside = [
            "127.0.0.1",
            "127.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.0",
            "100.127.255.255",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "febf::1",
            "fc00::",
            "fdff::1",
            "::ffff:10.0.0.1",
        ];
        let outside = [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "0.0.0.0",
            "8.8.8.8",
            "255.255.255.255",
            "::",
            "::2",
            "fec0::1",
            "fe00::1",
            "2001:db8::1",
            "::ffff:8.8.8.8",
        ];
        for address in inside {
            assert!(networks.contains(ip(address)), "{address} should be internal");
        }
        for address in outside {
            assert!(!networks.contains(ip(address)), "{address} should be external");
        }
    }

    #[test]
    fn configured_networks_replace_the_defaults() {
        let networks = vec!["203.0.113.0/24".parse().unwrap(), "::ffff:198.51.100.0/120".parse().unwrap()];
        let networks =
            InternalNetworks::new(networks, vec![ip("192.0.2.7"), ip("::ffff:192.0.2.8"), ip("2001:db8::7")]);
        for address in ["203.0.113.9", "198.51.100.255", "192.0.2.7", "192.0.2.8", "2001:db8::7"] {
            assert!(networks.contains(ip(address)), "{address}");
        }
        for address in ["10.0.0.1", "127.0.0.1", "198.51.101.0", "192.0.2.9", "2001:db8::8"] {
            assert!(!networks.contains(ip(address)), "{address}");
        }
        assert!(networks.is_node(ip("::ffff:192.0.2.7")) && networks.is_node(ip("127.0.0.2")));
        assert!(!networks.is_node(ip("203.0.113.9")));
    }

    #[test]
    fn everything_and_nothing() {
        let everything = InternalNetworks::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()], vec![]);
        let nothing = InternalNetworks::new(vec![], vec![]);
        for address in ["0.0.0.0", "255.255.255.255", "::", "ffff::1", "8.8.8.8"] {
            assert!(everything.contains(ip(address)), "{address}");
            assert!(!nothing.contains(ip(address)), "{address}");
        }
    }

    #[test]
    fn overlapping_networks_are_joined() {
        let networks = ["10.0.0.0/8", "10.1.0.0/16", "10.2.3.4/32", "11.0.0.0/8"].map(|text| text.parse().unwrap());
        let networks = InternalNetworks::new(networks.to_vec(), vec![]);
        assert!(networks.contains(ip("10.200.0.1")) && networks.contains(ip("11.255.0.1")));
        assert!(!networks.contains(ip("12.0.0.0")));
    }

    #[test]
    fn address_tables_of_the_kernel() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.2.0\n        /24 link UNICAST\n     |-- 10.0.2.15\n        \
                    /32 host LOCAL\n     |-- 10.0.2.255\n        /32 link BROADCAST\n     |-- nonsense\n        /32 host LOCAL\n";
        assert_eq!(local_v4(trie), [ip("10.0.2.15")]);
        let inet6 =
            "00000000000000000000000000000001 01 80 10 80       lo\nfe8000000000000000000000000000 02 40 20\nxyz\n";
        assert_eq!(local_v6(inet6), [ip("::1")]);
    }

    #[test]
    fn this_machine_has_loopback() {
        assert!(node_addresses().unwrap().contains(&ip("127.0.0.1")));
    }
}
