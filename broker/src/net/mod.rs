//! Bytes in, bytes out: listeners, connections, frames, and the client to other brokers. Knows
//! no API.

use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub mod client;
mod connection;
pub mod frame;
pub mod guard;
pub mod listener;
pub mod out;
mod page_cache;
#[cfg(test)]
mod tests;
mod wire;

pub use listener::{Connections, Listener};
pub use out::Response;

/// Who is on the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Unique in this process.
    pub connection_id: u64,
    pub address: SocketAddr,
    /// Name of the listener it came in on.
    pub listener: Arc<str>,
    /// `User:ANONYMOUS` on PLAINTEXT.
    pub principal: Arc<str>,
}

/// What a handler makes of a frame.
#[derive(Debug)]
pub enum Outcome {
    /// Header and body of the response, without the length prefix (the connection adds it).
    Respond(Response),
    /// Produce with acks=0: nothing is written.
    Silent,
    /// Close the connection; the reason goes into one log line.
    Close(String),
}

/// Turns frames into responses. One frame of a connection at a time, in order.
pub trait Handler: Send + Sync + 'static {
    /// Per-connection state (client software, fetch caches, SASL progress).
    type Connection: Send + 'static;

    fn connect(&self, peer: &Peer) -> Self::Connection;

    /// `frame` is one request without its length prefix.
    fn handle(
        &self,
        connection: &mut Self::Connection,
        peer: &Peer,
        frame: &[u8],
    ) -> impl Future<Output = Outcome> + Send;

    /// True when the request only waits and reads, so that its future may be dropped half-way once
    /// the peer has gone. All others run to their end, as in Kafka.
    fn is_abandonable(&self, frame: &[u8]) -> bool {
        let _ = frame;
        false
    }
}

/// What a peer may take. Filled from the configuration; the defaults are Kafka's.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `socket.request.max.bytes`.
    pub max_frame_bytes: usize,
    /// A started frame must be whole within this time, or flow at [`Limits::min_frame_rate`].
    /// Ours, not Kafka's.
    pub frame_deadline: Duration,
    /// Bytes per second.
    pub min_frame_rate: u64,
    /// `connections.max.idle.ms`; `None` (a negative value) never closes.
    pub max_idle: Option<Duration>,
    /// `max.connections`, over all listeners; a full broker accepts again when one has gone.
    pub max_connections: usize,
    /// `max.connections.per.ip`; those above are closed at once.
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`, resolved.
    pub max_connections_per_ip_overrides: HashMap<IpAddr, usize>,
    /// `max.connection.creation.rate`, per second and over all listeners; those above wait.
    pub max_connection_creation_rate: u32,
    /// `socket.send.buffer.bytes`; `None` (−1) leaves it to the system's autotuning.
    pub send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; `None` (−1) leaves it to the system's autotuning.
    pub receive_buffer_bytes: Option<usize>,
    /// `socket.listen.backlog.size`.
    pub listen_backlog: i32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame_bytes: 104_857_600,
            frame_deadline: Duration::from_secs(30),
            min_frame_rate: 1024,
            max_idle: Some(Duration::from_millis(600_000)),
            max_connections: i32::MAX as usize,
            max_connections_per_ip: i32::MAX as usize,
            max_connections_per_ip_overrides: HashMap::new(),
            max_connection_creation_rate: i32::MAX as u32,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            listen_backlog: 1024,
        }
    }
}
