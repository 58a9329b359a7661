//! Listeners: `NAME://host:port` lists, the map from listener name to security protocol, and the
//! checks Kafka makes of them (`SocketServerConfigs.listenerListToEndPoints`, `CoreUtils`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Error;

/// How the bytes of a listener are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// The id in UpdateMetadata and in `cluster::image::Endpoint`.
    pub fn id(self) -> i16 {
        match self {
            Self::Plaintext => 0,
            Self::Ssl => 1,
            Self::SaslPlaintext => 2,
            Self::SaslSsl => 3,
        }
    }

    /// Reads a name in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "PLAINTEXT" => Some(Self::Plaintext),
            "SSL" => Some(Self::Ssl),
            "SASL_PLAINTEXT" => Some(Self::SaslPlaintext),
            "SASL_SSL" => Some(Self::SaslSsl),
            _ => None,
        }
    }
}

/// One entry of `listeners` or `advertised.listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// In capitals, as Kafka normalises it.
    pub name: String,
    pub security_protocol: SecurityProtocol,
    /// `None` when left out: every interface, or the machine's own name when advertised.
    pub host: Option<String>,
    /// 0 asks the system for a free port; Kafka's parser lets negative numbers through to the
    /// bind, which fails.
    pub port: i32,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) if host.contains(':') => {
                write!(f, "{}://[{host}]:{}", self.name, self.port)
            }
            host => write!(
                f,
                "{}://{}:{}",
                self.name,
                host.as_deref().unwrap_or_default(),
                self.port
            ),
        }
    }
}

/// `listener.security.protocol.map`, by name in capitals.
pub type ProtocolMap = BTreeMap<String, SecurityProtocol>;

/// Reads `listener.security.protocol.map`.
pub(super) fn parse_protocol_map(text: &str) -> Result<ProtocolMap, Error> {
    const KEY: &str = "listener.security.protocol.map";
    let mut map = ProtocolMap::new();
    for (name, protocol) in parse_csv_map(KEY, text)? {
        let name = normalised(&name)?;
        let protocol = SecurityProtocol::from_name(&protocol).ok_or_else(|| {
            Error::rule(format!(
                "Invalid security protocol `{protocol}` defined in {KEY}"
            ))
        })?;
        map.insert(name, protocol);
    }
    Ok(map)
}

/// `key:value,…`, split at the last colon of each entry (`Csv.parseCsvMap`).
pub(super) fn parse_csv_map(key: &str, text: &str) -> Result<Vec<(String, String)>, Error> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.trim_end_matches(',')
        .split(',')
        .map(|entry| {
            let entry = entry.trim();
            entry
                .rsplit_once(':')
                .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
                .ok_or_else(|| {
                    Error::rule(format!(
                        "Error parsing configuration property '{key}': `{entry}` is not of the form name:value"
                    ))
                })
        })
        .collect()
}

/// A listener's name in capitals; blank is refused.
pub(super) fn normalised(name: &str) -> Result<String, Error> {
    if name.trim().is_empty() {
        return Err(Error::rule(
            "The provided listener name is null or empty string",
        ));
    }
    Ok(name.to_uppercase())
}

/// Reads a list of listeners. `listeners` must not share a port, but for one IPv4 and one IPv6
/// address; `advertised.listeners` may.
pub(super) fn parse_listeners(
    text: &str,
    protocols: &ProtocolMap,
    require_distinct_ports: bool,
) -> Result<Vec<Listener>, Error> {
    let listeners = text
        .trim()
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| parse_listener(entry, protocols))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            Error::rule(format!(
                "Error creating broker listeners from '{text}': {error}"
            ))
        })?;
    for (index, listener) in listeners.iter().enumerate() {
        if listeners[..index]
            .iter()
            .any(|other| other.name == listener.name)
        {
            return Err(Error::rule(format!(
                "Each listener must have a different name, listeners: {text}"
            )));
        }
    }
    if require_distinct_ports {
        check_ports(text, &listeners)?;
    }
    Ok(listeners)
}

fn parse_listener(entry: &str, protocols: &ProtocolMap) -> Result<Listener, Error> {
    let unable = || Error::rule(format!("Unable to parse {entry} to a broker endpoint"));
    // The name is everything before the last `://` that leaves a host and port behind it.
    let (name, address) = entry.rsplit_once("://").ok_or_else(unable)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(unable)?;
    let digits = port.strip_prefix('-').unwrap_or(port);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(unable());
    }
    let port: i32 = port
        .parse()
        .map_err(|_| Error::rule(format!("{entry}: the port {port} is too large")))?;
    let host = host.strip_prefix('[').unwrap_or(host);
    let host = host.strip_suffix(']').unwrap_or(host);
    if !is_host_text(host) {
        return Err(unable());
    }
    let name = normalised(name)?;
    let security_protocol = *protocols
        .get(&name)
        .ok_or_else(|| Error::rule(format!("No security protocol defined for listener {name}")))?;
    Ok(Listener {
        name,
        security_protocol,
        host: (!host.is_empty()).then(|| host.to_owned()),
        port,
    })
}

/// The characters of Kafka's host pattern.
pub(super) fn is_host_text(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-%._:".contains(&byte))
}

fn check_ports(text: &str, listeners: &[Listener]) -> Result<(), Error> {
    let mut by_port: BTreeMap<i32, Vec<&Listener>> = BTreeMap::new();
    for listener in listeners.iter().filter(|listener| listener.port != 0) {
        by_port.entry(listener.port).or_default().push(listener);
    }
    for (port, same) in by_port.into_iter().filter(|(_, same)| same.len() > 1) {
        let family = |listener: &&Listener| match &listener.host {
            Some(host) if host.parse::<Ipv4Addr>().is_ok() => Some(4),
            Some(host) if host.parse::<Ipv6Addr>().is_ok() => Some(6),
            _ => None,
        };
        let families: Vec<u8> = same.iter().filter_map(family).collect();
        let others = same.len() - families.len();
        if others > 1 {
            return Err(Error::rule(format!(
                "Each listener must have a different port, listeners: {text}"
            )));
        }
        match families.as_slice() {
            [first, second] if first != second && others == 0 => {}
            [_, _] => {
                return Err(Error::rule(format!(
                    "If you have two listeners on the same port then one needs to be IPv4 and the other IPv6, listeners: {text}, port: {port}"
                )));
            }
            _ => {
                return Err(Error::rule(format!(
                    "Each listener must have a different port unless exactly one listener has an IPv4 address and the other IPv6 address, listeners: {text}, port: {port}"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocols() -> ProtocolMap {
        parse_protocol_map("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL, internal : plaintext")
            .unwrap()
    }

    fn check(text: &str) -> Result<String, String> {
        parse_listeners(text, &protocols(), true)
            .map(|listeners| {
                let texts: Vec<_> = listeners.iter().map(ToString::to_string).collect();
                texts.join(",")
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn listeners_are_read_and_normalised() {
        for (given, expect) in [
            ("PLAINTEXT://:9092", "PLAINTEXT://:9092"),
            (
                " plaintext://h:1 , Internal://[::1]:2,",
                "PLAINTEXT://h:1,INTERNAL://[::1]:2",
            ),
            ("PLAINTEXT://h:0,SSL://h:0", "PLAINTEXT://h:0,SSL://h:0"),
            (
                "PLAINTEXT://1.2.3.4:9,SSL://[::1]:9",
                "PLAINTEXT://1.2.3.4:9,SSL://[::1]:9",
            ),
            ("", ""),
        ] {
            assert_eq!(check(given).as_deref(), Ok(expect), "{given}");
        }
    }

    #[test]
    fn bad_listeners_are_refused_with_kafkas_text() {
        for (given, expect) in [
            (
                "localhost:9092",
                "Error creating broker listeners from 'localhost:9092': Unable to parse localhost:9092 to a broker endpoint",
            ),
            (
                "PLAINTEXT://h",
                "Error creating broker listeners from 'PLAINTEXT://h': Unable to parse PLAINTEXT://h to a broker endpoint",
            ),
            (
                "X://h:1",
                "Error creating broker listeners from 'X://h:1': No security protocol defined for listener X",
            ),
            (
                "PLAINTEXT://h:1,plaintext://h:2",
                "Each listener must have a different name, listeners: PLAINTEXT://h:1,plaintext://h:2",
            ),
            (
                "PLAINTEXT://a:1,SSL://b:1",
                "Each listener must have a different port, listeners: PLAINTEXT://a:1,SSL://b:1",
            ),
            (
                "PLAINTEXT://1.1.1.1:1,SSL://1.1.1.2:1",
                "If you have two listeners on the same port then one needs to be IPv4 and the other IPv6, listeners: PLAINTEXT://1.1.1.1:1,SSL://1.1.1.2:1, port: 1",
            ),
        ] {
            assert_eq!(check(given), Err(expect.to_owned()), "{given}");
        }
    }

    #[test]
    fn the_protocol_map_refuses_unknown_protocols() {
        assert_eq!(
            parse_protocol_map("A:HTTP").map_err(|error| error.to_string()),
            Err(
                "Invalid security protocol `HTTP` defined in listener.security.protocol.map"
                    .to_owned()
            )
        );
        assert!(parse_protocol_map("A").is_err());
    }
}
