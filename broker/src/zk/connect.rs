//! `zookeeper.connect`: `host:port[,host:port…][/chroot]` [core]. A missing port is 2181; IPv6
//! addresses are in brackets.

use std::fmt;

use super::machine::validate;

const DEFAULT_PORT: u16 = 2181;

/// A parsed `zookeeper.connect`. Prints as the list of hosts, without the chroot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectString {
    pub hosts: Vec<(String, u16)>,
    /// Without a slash at its end; `None` for the root.
    pub chroot: Option<String>,
}

/// What is wrong with a `zookeeper.connect`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("zookeeper.connect={value}: {reason}; expected host:port[,host:port…][/chroot]")]
pub struct ConnectStringError {
    pub value: String,
    pub reason: String,
}

impl ConnectString {
    pub fn parse(value: &str) -> Result<Self, ConnectStringError> {
        let bad = |reason: String| ConnectStringError {
            value: value.to_owned(),
            reason,
        };
        let (hosts, chroot) = match value.find('/') {
            Some(slash) => value.split_at(slash),
            None => (value, ""),
        };
        let chroot = chroot.strip_suffix('/').unwrap_or(chroot);
        if !chroot.is_empty() {
            validate(chroot).map_err(|_| bad(format!("`{chroot}` is not a path")))?;
        }
        let hosts = hosts
            .split(',')
            .map(|host| {
                let host = host.trim();
                parse_host(host).ok_or_else(|| bad(format!("`{host}` is not host:port")))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hosts,
            chroot: (!chroot.is_empty()).then(|| chroot.to_owned()),
        })
    }
}

fn parse_host(text: &str) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':')?),
        };
        (host, port)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0)?,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

impl fmt::Display for ConnectString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_chroot_are_read() {
        let check = |text: &str, hosts: &str, chroot: Option<&str>| {
            let parsed = ConnectString::parse(text).expect(text);
            assert_eq!(parsed.to_string(), hosts);
            assert_eq!(parsed.chroot.as_deref(), chroot);
        };
        check("zk:2181", "zk:2181", None);
        check("zk", "zk:2181", None);
        check(
            "a:1, b:2,[::1]:3/kafka/x",
            "a:1,b:2,[::1]:3",
            Some("/kafka/x"),
        );
        check("a/", "a:2181", None);
        check("[::1]/c/", "[::1]:2181", Some("/c"));
        for bad in [
            "", "a:", "a:0", "a:99999", ":1", "a,,b", "a//b", "[::1", "[::1]x", "a:1:2",
        ] {
            let error = ConnectString::parse(bad).expect_err(bad).to_string();
            assert!(
                error.starts_with(&format!("zookeeper.connect={bad}: ")),
                "{error}"
            );
        }
    }
}
