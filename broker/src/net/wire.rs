//! The writing half of a connection: small pieces gather in one buffer and leave in one `send`;
//! file regions leave by `sendfile`, straight from the page cache.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use rustix::fs::sendfile;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use rustix::net::{SendFlags, send};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::frame;
use super::out::{Piece, Response};
use crate::log::FileRegion;

/// Smaller regions are read into the buffer: one `send` costs less than `send` + `sendfile`.
const SENDFILE_MIN: usize = 8 * 1024;
/// Bytes per `sendfile` call, and that are read before it when they are not in the page cache.
const SENDFILE_MAX: usize = 512 * 1024;
/// Bytes of one read that only brings pages into the cache.
const READ_AHEAD: usize = 64 * 1024;
/// Larger byte chunks are sent from where they are.
const COPY_MAX: usize = 16 * 1024;
/// The buffer is sent when it holds this much, and given back when it is larger.
const FLUSH_AT: usize = 64 * 1024;

/// A socket and what waits to be written to it.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    buffer: BytesMut,
    /// How long the peer may take in nothing.
    max_stall: Option<Duration>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, max_stall: Option<Duration>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            max_stall,
        }
    }

    /// Puts one response behind those that wait; large pieces are sent at once.
    pub(super) async fn respond(&mut self, response: Response) -> io::Result<()> {
        let length = response.len();
        let length = i32::try_from(length)
            .map_err(|_| io::Error::other(format!("a response of {length} bytes")))?;
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
        self.buffer.put_i32(length);
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
                    self.send_region(region).await?;
                }
            }
        }
        if self.buffer.len() >= FLUSH_AT {
            self.flush().await?;
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
            self.buffer = BytesMut::new();
        }
    }

    async fn send_buffer(&mut self, flags: SendFlags) -> io::Result<()> {
        while !self.buffer.is_empty() {
            match self.try_send(&self.buffer, flags) {
                Ok(sent) => self.buffer.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        if self.buffer.capacity() > FLUSH_AT {
            self.buffer = BytesMut::new();
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

    async fn send_region(&self, region: &FileRegion) -> io::Result<()> {
        let mut position = region.position;
        let end = region.position + region.len as u64;
        while position < end {
            let count = usize::try_from(end - position)
                .unwrap_or(SENDFILE_MAX)
                .min(SENDFILE_MAX);
            if !is_cached(&region.file, position + count as u64 - 1) {
                read_ahead(Arc::clone(&region.file), position, count as u64).await?;
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
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

/// Whether the byte at `position` can be read without waiting for the disk. What cannot be told (the
/// file system does not say) counts as cached, and so does what is not there any more.
fn is_cached(file: &File, position: u64) -> bool {
    let mut byte = [0];
    let mut into = [IoSliceMut::new(&mut byte)];
    !matches!(
        preadv2(file, &mut into, position, ReadWriteFlags::NOWAIT),
        Err(Errno::AGAIN)
    )
}

/// Brings a stretch of a file into the page cache. The disk is waited for on another thread: the
/// worker of this connection serves producers, too. Reads in order, so that the kernel reads ahead.
async fn read_ahead(file: Arc<File>, position: u64, len: u64) -> io::Result<()> {
    let read = move || {
        let mut scratch = vec![0; READ_AHEAD];
        let end = position + len;
        let mut at = position;
        while at < end {
            let count = usize::try_from(end - at).map_or(READ_AHEAD, |left| left.min(READ_AHEAD));
            match file.read_at(&mut scratch[..count], at)? {
                // Truncated since: `sendfile` will tell.
                0 => break,
                read => at += read as u64,
            }
        }
        Ok(())
    };
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Advice, fadvise};

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_is_cached() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &[7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        let file = Arc::new(file);
        read_ahead(Arc::clone(&file), 0, 1 << 20).await.unwrap();
        assert!(is_cached(&file, 0));
        assert!(is_cached(&file, (1 << 20) - 1));
        // Beyond the end there is nothing to wait for.
        assert!(is_cached(&file, 1 << 21));
    }
}
