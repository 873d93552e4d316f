//! Which addresses a webhook may have. Whoever has an account can make this server send requests, so they must go nowhere
//! that only this server can reach.
//!
//! An address is allowed for what it is known to be, not refused for what it is known not to be: of IPv6 only global unicast
//! is left, and of that only what does not stand for an IPv4 address in disguise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Anybody on the Internet could send there.
    Public,
    /// This machine, or a network of its own: only if the settings say so.
    Private,
    /// Nobody's, many's, or a place where machines keep their credentials: never.
    Never,
}

type Range4 = ([u8; 4], u32, Reach);

/// What is not for everybody (IANA IPv4 Special-Purpose Address Registry).
const RANGES_4: [Range4; 17] = [
    // "This network": connects to this machine.
    ([0, 0, 0, 0], 8, Reach::Never),
    ([10, 0, 0, 0], 8, Reach::Private),
    // Metadata of a cloud, within the next range.
    ([100, 100, 100, 200], 32, Reach::Never),
    ([100, 64, 0, 0], 10, Reach::Private),
    ([127, 0, 0, 0], 8, Reach::Private),
    // Link-local: metadata of clouds.
    ([169, 254, 0, 0], 16, Reach::Never),
    ([172, 16, 0, 0], 12, Reach::Private),
    ([192, 0, 0, 0], 24, Reach::Never),
    ([192, 0, 2, 0], 24, Reach::Never),
    // Once anycast of 6to4 relays.
    ([192, 88, 99, 0], 24, Reach::Never),
    ([192, 168, 0, 0], 16, Reach::Private),
    ([198, 18, 0, 0], 15, Reach::Never),
    ([198, 51, 100, 0], 24, Reach::Never),
    ([203, 0, 113, 0], 24, Reach::Never),
    // A wire server of a cloud, at a public address.
    ([168, 63, 129, 16], 32, Reach::Never),
    // Multicast.
    ([224, 0, 0, 0], 4, Reach::Never),
    // Reserved, and broadcast.
    ([240, 0, 0, 0], 4, Reach::Never),
];

/// Credentials of a cloud, within the private range.
const METADATA_6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// What this address is good for, whatever it is written as.
#[must_use]
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_4(address),
        IpAddr::V6(address) => reach_6(address),
    }
}

fn reach_4(address: Ipv4Addr) -> Reach {
    let bits = u32::from(address);
    let within = |(base, length, _): &&Range4| (bits ^ u32::from(Ipv4Addr::from(*base))).leading_zeros() >= *length;
    RANGES_4.iter().find(within).map_or(Reach::Public, |range| range.2)
}

fn reach_6(address: Ipv6Addr) -> Reach {
    let parts = address.segments();
    let last = Ipv4Addr::from(((u32::from(parts[6])) << 16) | u32::from(parts[7]));
    match parts {
        // ::1
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        // ::ffff:a.b.c.d, and NAT64 by its well-known prefix: an IPv4 address is what is reached.
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0x0064, 0xff9b, 0, 0, 0, 0, _, _] => reach_4(last),
        _ if address == METADATA_6 => Reach::Never,
        // Unique local.
        [first, ..] if first & 0xfe00 == 0xfc00 => Reach::Private,
        // Whatever is no global unicast: unspecified, link-local, multicast, NAT64 of a local prefix, IPv4-compatible, ….
        [first, ..] if first & 0xe000 != 0x2000 => Reach::Never,
        // Protocols of the IETF, among them Teredo; documentation; 6to4; documentation again.
        [0x2001, second, ..] if second < 0x0200 || second == 0x0db8 => Reach::Never,
        [0x2002, ..] => Reach::Never,
        [0x3fff, second, ..] if second < 0x1000 => Reach::Never,
        // ISATAP: its last half stands for an IPv4 address.
        [_, _, _, _, 0 | 0x0200, 0x5efe, _, _] => Reach::Never,
        _ => Reach::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_what_the_registries_say() {
        let table = [
            (
                Reach::Public,
                "1.1.1.1 8.8.8.8 93.184.216.34 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255",
            ),
            (
                Reach::Public,
                "128.0.0.1 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.0 192.0.3.0 192.167.1.1",
            ),
            (
                Reach::Public,
                "192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.1 203.0.114.1 223.255.255.255 192.88.98.255",
            ),
            (Reach::Private, "10.0.0.0 10.255.255.255 127.0.0.1 127.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1"),
            (Reach::Private, "192.168.255.255 100.64.0.0 100.127.255.255 ::1 fc00:: fd12:3456::1 fdff:ffff::1"),
            (Reach::Private, "::ffff:10.0.0.1 ::ffff:127.0.0.1 ::ffff:7f00:1 64:ff9b::10.0.0.1 64:ff9b::7f00:1"),
            (Reach::Never, "0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.0 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1"),
            (Reach::Never, "198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1"),
            (Reach::Never, "255.255.255.255 100.100.100.200 168.63.129.16"),
            (Reach::Never, ":: ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::ffff:224.0.0.1 64:ff9b::169.254.169.254"),
            (Reach::Never, "::127.0.0.1 ::10.0.0.1 64:ff9b:1::1 100::1 fe80::1 febf::1 fec0::1 ff02::1 ff0e::1"),
            (Reach::Never, "2001::1 2001:0:53aa:64c::1 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1"),
            (Reach::Never, "2002:0808:0808::1 3fff::1 3fff:fff::1 5f00::1 fd00:ec2::254 2606:4700::5efe:7f00:1"),
            (Reach::Never, "2606:4700::200:5efe:a00:1"),
            (Reach::Public, "2606:4700:4700::1111 2a00:1450::1 2001:4860:4860::8888 2001:200::1 3fff:1000::1"),
            (Reach::Public, "::ffff:8.8.8.8 64:ff9b::8.8.8.8"),
        ];
        for (expected, addresses) in table {
            for address in addresses.split(' ') {
                assert_eq!(reach(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
