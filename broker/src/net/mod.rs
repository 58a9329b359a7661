//! Bytes in, bytes out: listeners, connections, frames, and the client to other brokers. Knows
//! no API.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::log::FileRegion;

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

/// A piece of a response: bytes, or a stretch of a file to `sendfile`.
#[derive(Debug, Clone)]
pub enum Chunk {
    Bytes(Bytes),
    File(FileRegion),
}

/// What a handler makes of a frame.
#[derive(Debug)]
pub enum Outcome {
    /// Header and body of the response, without the length prefix (the connection adds it).
    Respond(Vec<Chunk>),
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
        frame: Bytes,
    ) -> impl Future<Output = Outcome> + Send;
}
