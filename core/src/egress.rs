//! Which servers sources may be fetched from: by name and by address, each address judged after its name was resolved.
//! Addresses of the link alone and those at which clouds hand out credentials are refused unless they are allowed by
//! address: what a source names must not turn the hub into a way to them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// What is refused unless it is allowed by address, and why.
const REFUSED: [(&str, &str); 13] = [
    ("0.0.0.0/8", "no address of a server"),
    ("::", "no address of a server"),
    ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
    ("fe80::/10", "link-local"),
    ("100.100.100.200", "a cloud's metadata service"),
    ("168.63.129.16", "a cloud's metadata service"),
    ("192.0.0.192", "a cloud's metadata service"),
    ("fd00:ec2::254", "a cloud's metadata service"),
    ("fd00:c1::a9fe:a9fe", "a cloud's metadata service"),
    ("fd20:ce::254", "a cloud's metadata service"),
    ("224.0.0.0/4", "no address of a server"),
    ("240.0.0.0/4", "no address of a server"),
    ("ff00::/8", "no address of a server"),
];

/// Names and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Addresses whose first bits are these.
    Network(Network),
    /// A host of this name.
    Host(String),
    /// Hosts whose names end so, with the dot.
    Below(String),
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u32,
}

/// Not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an address, a network such as 10.0.0.0/8, a host name, or *.example.org")]
pub struct InvalidRule;

/// What sources may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
}

/// Why a server is not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is refused unless it is allowed by address.
    #[error("{} is {why}; a source may reach it where the hub runs with --egress-allow {address}", named(host, *address))]
    Special {
        /// The host.
        host: String,
        /// Its address.
        address: IpAddr,
        /// What is special about it.
        why: &'static str,
    },
    /// The hub's configuration denies it.
    #[error("{} is denied by --egress-deny of the hub", address.map_or_else(|| format!("'{host}'"), |address| named(host, address)))]
    Denied {
        /// The host.
        host: String,
        /// Its address, where that is what is denied.
        address: Option<IpAddr>,
    },
}

fn named(host: &str, address: IpAddr) -> String {
    match plain(host) == address.to_string() {
        true => format!("'{address}'"),
        false => format!("'{host}' ({address})"),
    }
}

/// A host without the brackets of an address.
fn plain(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

impl Policy {
    /// Of what is both allowed and denied, the allowing rule wins.
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        Self { allow, deny }
    }

    /// Judges a host by one of its addresses.
    pub fn judge(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        [Some(address), embedded(address)]
            .into_iter()
            .flatten()
            .try_for_each(|address| self.judge_address(host, address))
    }

    fn judge_address(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        let has = |rules: &[Rule]| rules.iter().any(|rule| rule.has_address(address));
        let is_allowed = has(&self.allow);
        if let (false, Some(why)) = (is_allowed, special(address)) {
            return Err(Refusal::Special {
                host: host.to_owned(),
                address,
                why,
            });
        }
        if is_allowed || self.allow.iter().any(|rule| rule.has_host(host)) {
            return Ok(());
        }
        if has(&self.deny) {
            return Err(Refusal::Denied {
                host: host.to_owned(),
                address: Some(address),
            });
        }
        self.judge_host(host)
    }

    /// Judges a host by its name alone, where somebody else resolves it: a proxy.
    pub fn judge_host(&self, host: &str) -> Result<(), Refusal> {
        if let Ok(address) = plain(host).parse::<IpAddr>()
            && !self.allow.iter().any(|rule| rule.has_address(address))
            && let Some(why) = special(address)
        {
            return Err(Refusal::Special {
                host: host.to_owned(),
                address,
                why,
            });
        }
        let has = |rules: &[Rule]| rules.iter().any(|rule| rule.has_host(host));
        match has(&self.deny) && !has(&self.allow) {
            true => Err(Refusal::Denied {
                host: host.to_owned(),
                address: None,
            }),
            false => Ok(()),
        }
    }
}

fn special(address: IpAddr) -> Option<&'static str> {
    REFUSED.iter().find_map(|(network, why)| {
        let network: Network = network.parse().ok()?;
        network.has(address).then_some(*why)
    })
}

/// The IPv4 address that an IPv6 address stands for: mapped, translated or tunnelled.
fn embedded(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let of = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high, low].map(u16::to_be_bytes);
        Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => of(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if address != Ipv6Addr::LOCALHOST => of(high, low),
        _ => None,
    }
}

impl Rule {
    fn has_address(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.has(address),
            Self::Host(_) | Self::Below(_) => false,
        }
    }

    fn has_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Network(network) => plain(&host).parse().is_ok_and(|address| network.has(address)),
            Self::Host(name) => host == *name,
            Self::Below(end) => host.ends_with(end.as_str()),
        }
    }
}

impl Network {
    fn has(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let same = first.to_bits() ^ address.to_bits();
                same.checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let same = first.to_bits() ^ address.to_bits();
                same.checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_| InvalidRule)?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| InvalidRule)?;
        match bits <= most {
            true => Ok(Self { first, bits }),
            false => Err(InvalidRule),
        }
    }
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        let (name, is_below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        // What looks like an address and is none would never match.
        let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if name.is_empty()
            || name.len() > 253
            || is_number
            || !name.bytes().all(fits)
            || name.starts_with('.')
        {
            return Err(InvalidRule);
        }
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        Ok(match is_below {
            true => Self::Below(format!(".{name}")),
            false => Self::Host(name),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(rules: &[&str]) -> Vec<Rule> {
        rules.iter().map(|rule| rule.parse().expect("a rule")).collect()
    }

    fn passes(policy: &Policy, host: &str, address: &str) -> bool {
        policy.judge(host, address.parse().expect("an address")).is_ok()
    }

    #[test]
    fn link_local_and_metadata_addresses_are_refused_in_every_form_unless_allowed_by_address() {
        let policy = Policy::default();
        let special = [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::a9fe:a9fe",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ];
        for address in special {
            assert!(!passes(&policy, "git.example.org", address), "{address} passed");
        }
        for address in [
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "192.168.0.1",
            "fd00::1",
            "140.82.121.4",
            "2606:50c0::1",
        ] {
            assert!(
                passes(&policy, "git.example.org", address),
                "{address} was refused"
            );
        }
        let allowed = Policy::new(rules(&["169.254.0.0/16"]), Vec::new());
        assert!(passes(&allowed, "x", "169.254.169.254") && !passes(&allowed, "x", "fe80::1"));
        // A name is no reason to reach them: whoever answers for it may say anything.
        let by_name = Policy::new(rules(&["git.example.org"]), Vec::new());
        assert!(!passes(&by_name, "git.example.org", "169.254.169.254"));
    }

    #[test]
    fn with_all_denied_only_what_is_allowed_is_reached() {
        let policy = Policy::new(
            rules(&["git.example.org", "*.corp.example", "10.0.0.0/8"]),
            rules(&["0.0.0.0/0", "::/0"]),
        );
        for (host, address, expected) in [
            ("git.example.org", "1.2.3.4", true),
            ("GIT.example.org.", "2606:50c0::1", true),
            ("a.corp.example", "1.2.3.4", true),
            ("corp.example", "1.2.3.4", false),
            ("evilcorp.example", "1.2.3.4", false),
            ("other.example", "10.9.8.7", true),
            ("other.example", "11.0.0.1", false),
            ("other.example", "2606:50c0::1", false),
        ] {
            assert_eq!(passes(&policy, host, address), expected, "{host} at {address}");
        }
    }

    #[test]
    fn what_a_proxy_resolves_is_judged_by_its_name() {
        let policy = Policy::new(Vec::new(), rules(&["*.internal", "127.0.0.0/8"]));
        for (host, expected) in [
            ("db.internal", false),
            ("example.org", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("[fe80::1]", false),
            ("[2606:50c0::1]", true),
        ] {
            assert_eq!(policy.judge_host(host).is_ok(), expected, "{host}");
        }
    }

    #[test]
    fn a_refusal_says_how_it_is_allowed() {
        let refused = Policy::default().judge("meta.example", "169.254.169.254".parse().expect("an address"));
        assert_eq!(
            refused.expect_err("refused").to_string(),
            "'meta.example' (169.254.169.254) is link-local, where clouds keep their metadata; a source may reach it where \
             the hub runs with --egress-allow 169.254.169.254"
        );
        let denied =
            Policy::new(Vec::new(), rules(&["127.0.0.1"])).judge("127.0.0.1", Ipv4Addr::LOCALHOST.into());
        let denied = denied.expect_err("denied").to_string();
        assert_eq!(denied, "'127.0.0.1' is denied by --egress-deny of the hub");
    }

    #[test]
    fn only_networks_and_names_are_rules() {
        for text in [
            "10.0.0.0/8",
            "::1",
            "fe80::/10",
            "git.example.org",
            "*.example.org",
            "localhost",
        ] {
            assert!(text.parse::<Rule>().is_ok(), "{text} was refused");
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "*",
            "*.",
            "a b",
            "http://x",
            "x/8",
            "..x",
        ] {
            assert!(text.parse::<Rule>().is_err(), "{text} was taken");
        }
    }
}
