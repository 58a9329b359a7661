//! The writing half of a connection: small pieces gather in one buffer and leave in one `send`;
//! file regions leave by `sendfile`, straight from the page cache.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::out::{Piece, Response};
use super::{frame, page_cache};
use crate::log::FileRegion;

/// Smaller regions are read into the buffer: one `send` costs less than `send` + `sendfile`.
const SENDFILE_MIN: usize = 8 * 1024;
/// Bytes per `sendfile` call, and that are read before it when they are not in the page cache.
const SENDFILE_MAX: usize = page_cache::BLOCK as usize;
/// Larger byte chunks are sent from where they are.
const COPY_MAX: usize = 16 * 1024;
/// The buffer is sent when it holds this much, and given back when it is larger.
const FLUSH_AT: usize = 64 * 1024;

/// A socket and what waits to be written to it.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
    /// How long the peer may take in nothing.
    max_stall: Option<Duration>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, max_stall: Option<Duration>) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            max_stall,
        }
    }

    /// Puts one response behind those that wait; large pieces are sent at once. `now` may be a little
    /// old: it tells what was seen in the page cache lately.
    pub(super) async fn respond(&mut self, response: Response, now: Instant) -> io::Result<()> {
        let length = response.len();
        let length = i32::try_from(length)
            .map_err(|_| io::Error::other(format!("a response of {length} bytes")))?;
        match response.only_bytes() {
            Some(bytes) if bytes.len() <= COPY_MAX => {
                self.buffer.reserve(frame::PREFIX + bytes.len());
                self.buffer.extend_from_slice(&length.to_be_bytes());
                self.buffer.extend_from_slice(bytes);
            }
            _ => self.respond_in_pieces(length, &response, now).await?,
        }
        response.recycle();
        if self.buffer.len() >= FLUSH_AT {
            self.flush().await?;
        }
        Ok(())
    }

    async fn respond_in_pieces(
        &mut self,
        length: i32,
        response: &Response,
        now: Instant,
    ) -> io::Result<()> {
        // What gathers in the buffer, so that it grows once.
        let gathered: usize = response
            .pieces()
            .map(|piece| match piece {
                Piece::Bytes(bytes) if bytes.len() <= COPY_MAX => bytes.len(),
                Piece::File(region) if region.len < SENDFILE_MIN => region.len,
                Piece::Bytes(_) | Piece::File(_) => 0,
            })
            .sum();
        self.buffer.reserve(frame::PREFIX + gathered.min(FLUSH_AT));
        self.buffer.extend_from_slice(&length.to_be_bytes());
        for piece in response.pieces() {
            match piece {
                Piece::Bytes(bytes) if bytes.len() <= COPY_MAX => {
                    self.buffer.extend_from_slice(bytes);
                }
                Piece::Bytes(bytes) => {
                    self.send_buffer(SendFlags::MORE).await?;
                    self.send_all(bytes, SendFlags::empty()).await?;
                }
                Piece::File(region) if region.len < SENDFILE_MIN => {
                    let start = self.buffer.len();
                    self.buffer.resize(start + region.len, 0);
                    region
                        .file
                        .read_exact_at(&mut self.buffer[start..], region.position)?;
                }
                Piece::File(region) => {
                    self.send_buffer(SendFlags::MORE).await?;
                    self.send_region(region, now).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends what has gathered.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.send_buffer(SendFlags::empty()).await
    }

    /// Gives the buffer's memory back; called when the connection goes idle.
    pub(super) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    async fn send_buffer(&mut self, flags: SendFlags) -> io::Result<()> {
        self.send_all(&self.buffer, flags).await?;
        if self.buffer.capacity() > FLUSH_AT {
            self.buffer = Vec::new();
        } else {
            self.buffer.clear();
        }
        Ok(())
    }

    async fn send_all(&self, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_send(bytes, flags) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn try_send(&self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        self.stream.try_io(Interest::WRITABLE, || {
            Ok(send(&self.stream, bytes, flags | SendFlags::NOSIGNAL)?)
        })
    }

    async fn send_region(&self, region: &FileRegion, mut now: Instant) -> io::Result<()> {
        let mut position = region.position;
        let end = region.position + region.len as u64;
        while position < end {
            let count = usize::try_from(end - position)
                .unwrap_or(SENDFILE_MAX)
                .min(SENDFILE_MAX);
            if !page_cache::holds(&region.file, position + count as u64, now) {
                page_cache::read_ahead(Arc::clone(&region.file), position, count as u64).await?;
            }
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = position;
                let result = sendfile(&self.stream, &*region.file, Some(&mut offset), count);
                match result {
                    Err(Errno::INTR) => Ok(None),
                    other => Ok(Some(other?)),
                }
            });
            match sent {
                // The length is promised already; the file became shorter since.
                Ok(Some(0)) => {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "a segment was truncated while it was being sent",
                    ));
                }
                Ok(Some(sent)) => {
                    position += sent as u64;
                    if position < end {
                        tokio::task::consume_budget().await;
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable().await?;
                    now = Instant::now();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        match self.max_stall {
            None => self.stream.writable().await,
            Some(limit) => timeout(limit, self.stream.writable())
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
        }
    }
}
