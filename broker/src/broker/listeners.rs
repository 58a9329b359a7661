//! The listeners of a broker: binding them, what the broker says of them to others, and the part
//! of their configuration that changes at run time (KIP-226): `advertised.listeners`,
//! `max.connections`, `max.connections.per.ip` with its overrides, `max.connection.creation.rate`.

use std::collections::HashMap;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{SERVER, StartError};
use crate::cluster::image::Endpoint;
use crate::config::listener::SecurityProtocol;
use crate::config::{Config, LiveConfig};
use crate::net::{Limits, Listener};
use crate::zk::data::BrokerRegistration;
use crate::zk::session::Registrar;

/// The ports that listeners got, by name: another than the configured one when that is 0.
pub(super) type Bound = HashMap<Arc<str>, u16>;

/// Takes the ports of `listeners`, without serving them yet.
pub(super) fn bind(config: &Config) -> Result<Vec<Listener>, StartError> {
    let limits = limits(config);
    let mut bound = Vec::new();
    for listener in config.listeners() {
        if listener.security_protocol != SecurityProtocol::Plaintext {
            return Err(StartError::Security {
                listener: listener.to_string(),
                protocol: listener.security_protocol.name(),
            });
        }
        let failed = |source| StartError::Bind {
            listener: listener.to_string(),
            source,
        };
        let port = u16::try_from(listener.port)
            .map_err(|_| failed(std::io::ErrorKind::InvalidInput.into()))?;
        bound.push(
            Listener::bind(&listener.name, listener.host.as_deref(), port, &limits)
                .map_err(failed)?,
        );
    }
    Ok(bound)
}

pub(super) fn limits(config: &Config) -> Limits {
    let count = |limit: i32| usize::try_from(limit).unwrap_or(0);
    // Kafka's default of 100 KB stops the kernel from fitting a buffer to its connection, which costs
    // large requests and responses a wake-up for every 100 KB: only who wants it gets it.
    let buffer = |key, bytes: i32| usize::try_from(bytes).ok().filter(|_| config.is_set(key));
    let mut overrides = HashMap::new();
    for (host, limit) in config.max_connections_per_ip_overrides() {
        match (host.as_str(), 0u16).to_socket_addrs() {
            Ok(addresses) => {
                overrides.extend(addresses.map(|address| (address.ip(), count(*limit))))
            }
            Err(error) => {
                warn!(target: SERVER, "max.connections.per.ip.overrides: {host}: {error}")
            }
        }
    }
    Limits {
        max_frame_bytes: count(config.socket_request_max_bytes()),
        max_idle: u64::try_from(config.connections_max_idle_ms())
            .ok()
            .map(Duration::from_millis),
        max_connections: count(config.max_connections()),
        max_connections_per_ip: count(config.max_connections_per_ip()),
        max_connections_per_ip_overrides: overrides,
        max_connection_creation_rate: u32::try_from(config.max_connection_creation_rate())
            .unwrap_or(u32::MAX),
        send_buffer_bytes: buffer(
            "socket.send.buffer.bytes",
            config.socket_send_buffer_bytes(),
        ),
        receive_buffer_bytes: buffer(
            "socket.receive.buffer.bytes",
            config.socket_receive_buffer_bytes(),
        ),
        listen_backlog: config.socket_listen_backlog_size(),
        ..Limits::default()
    }
}

pub(super) fn ports(listeners: &[Listener]) -> Bound {
    listeners
        .iter()
        .map(|listener| (Arc::clone(listener.name()), listener.local_addr().port()))
        .collect()
}

/// What other brokers and the controller are told of this one.
pub(super) fn registration(config: &Config, bound: &Bound) -> BrokerRegistration {
    let endpoints = config
        .advertised_listeners()
        .iter()
        .map(|advertised| {
            let port = match advertised.port {
                0 => bound.get(&*advertised.name).copied().map_or(0, i32::from),
                port => port,
            };
            Endpoint {
                listener: advertised.name.clone(),
                security_protocol: advertised.security_protocol.id(),
                host: advertised.host.clone().unwrap_or_else(host_name),
                port,
            }
        })
        .collect();
    BrokerRegistration::new(endpoints, config.broker_rack().map(str::to_owned))
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// Brings every change of the broker's configuration to its listeners and its registration, until
/// `changes` ends.
pub(super) async fn follow(
    live: Arc<LiveConfig>,
    bound: Bound,
    registrar: Arc<Registrar>,
    shared: watch::Sender<Arc<Limits>>,
    mut changes: watch::Receiver<()>,
) {
    let mut advertised = registration(&live.load(), &bound);
    while changes.changed().await.is_ok() {
        let config = live.load();
        shared.send_replace(Arc::new(limits(&config)));
        let wanted = registration(&config, &bound);
        if wanted == advertised {
            continue;
        }
        info!(target: SERVER, "advertised.listeners changed; registering the new addresses");
        match registrar.update(wanted.clone()).await {
            Ok(()) => advertised = wanted,
            Err(error) => error!(target: SERVER, "advertised.listeners: not registered: {error}"),
        }
    }
}
