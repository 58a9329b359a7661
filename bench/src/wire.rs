//! Frames on a raw connection. Produce v11 and Fetch v12 are written and read by hand, so that the
//! generator costs next to nothing beside the broker; everything else goes through `kafka_protocol`.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable as _, Encodable as _, HeaderVersion as _, Request, StrBytes,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
const PRODUCE_VERSION: i16 = 11;
const FETCH_VERSION: i16 = 12;
const CLIENT_ID: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(60);
const READ: usize = 64 * 1024;

/// A blocking connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            start: 0,
            end: 0,
        })
    }

    /// The other half, for a thread of its own; only one of the two may read.
    pub fn writer(&self) -> Result<TcpStream> {
        Ok(self.stream.try_clone()?)
    }

    pub fn set_patience(&self, patience: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    pub fn send_parts(&mut self, parts: &mut [IoSlice<'_>]) -> Result<()> {
        send_parts(&mut self.stream, parts)
    }

    /// The next response, without its length. Waits for it.
    pub fn receive(&mut self) -> Result<&[u8]> {
        let length = self.fill()?;
        let at = self.start + 4;
        self.start = at + length;
        Ok(&self.buffer[at..at + length])
    }

    /// Whether a whole response is in the buffer, so that [`Self::receive`] does not wait.
    pub fn has_response(&self) -> bool {
        self.length()
            .is_some_and(|length| self.end - self.start >= 4 + length)
    }

    fn length(&self) -> Option<usize> {
        let prefix = self.buffer[self.start..self.end].first_chunk::<4>()?;
        Some(u32::from_be_bytes(*prefix) as usize)
    }

    fn fill(&mut self) -> Result<usize> {
        loop {
            let wanted = match self.length() {
                Some(length) if self.end - self.start >= 4 + length => return Ok(length),
                Some(length) => 4 + length,
                None => 4,
            };
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            }
            if self.start + wanted > self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
                if self.buffer.len() < wanted.max(READ) {
                    self.buffer.resize(wanted.max(READ), 0);
                }
            }
            let read = self.stream.read(&mut self.buffer[self.end..])?;
            ensure!(read > 0, "the broker closed the connection");
            self.end += read;
        }
    }

    /// Sends one request and waits for its response.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.send(&frame(request, version)?)?;
        self.answer::<R>(version)
    }

    /// Reads the response to a request of this kind.
    pub fn answer<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let body = Bytes::copy_from_slice(self.receive()?);
        decode::<R>(body, version)
    }
}

/// One of many connections of one thread, for requests that are answered late.
pub struct SharedConnection {
    stream: BufReader<tokio::net::TcpStream>,
}

impl SharedConnection {
    /// Belongs to the runtime that it is called in.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = Connection::open(address)?.stream;
        stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        Ok(Self {
            stream: BufReader::with_capacity(1024, stream),
        })
    }

    /// Sends one request and waits for its response.
    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.stream.write_all(&frame(request, version)?).await?;
        let length = self.stream.read_u32().await?;
        let mut body = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut body).await?;
        decode::<R>(body.into(), version)
    }
}

fn decode<R: Request>(mut body: Bytes, version: i16) -> Result<R::Response> {
    ResponseHeader::decode(&mut body, R::Response::header_version(version))?;
    R::Response::decode(&mut body, version)
}

pub fn send_parts(stream: &mut TcpStream, mut parts: &mut [IoSlice<'_>]) -> Result<()> {
    while !parts.is_empty() {
        // No more slices than the kernel takes at once.
        let sent = stream.write_vectored(&parts[..parts.len().min(1024)])?;
        ensure!(sent > 0, "the broker closed the connection");
        IoSlice::advance_slices(&mut parts, sent);
    }
    Ok(())
}

/// A whole request with its length in front.
pub fn frame<R: Request>(request: &R, version: i16) -> Result<Vec<u8>> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(0)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
    let mut bytes = BytesMut::from(&[0; 4][..]);
    header.encode(&mut bytes, R::header_version(version))?;
    request.encode(&mut bytes, version)?;
    let length = u32::try_from(bytes.len() - 4)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes.to_vec())
}

fn header(api_key: i16, version: i16) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(api_key.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(0_i32.to_be_bytes());
    out.extend((CLIENT_ID.len() as i16).to_be_bytes());
    out.extend_from_slice(CLIENT_ID.as_bytes());
    out.push(0);
    out
}

pub fn put_uvarint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Lengths are one more than they are, so that 0 can mean null.
pub fn put_compact(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() + 1);
    out.extend_from_slice(bytes);
}

fn finish(out: &mut [u8], further: usize) -> Result<()> {
    let length = u32::try_from(out.len() - 4 + further)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// What follows the last batch of a Produce request: ends of partition, topic and request.
pub const PRODUCE_TAIL: [u8; 3] = [0; 3];

/// The bytes of a Produce request before the batch of its only partition; batch and
/// [`PRODUCE_TAIL`] follow.
pub fn produce_head(topic: &str, partition: i32, acks: i16, batch_bytes: usize) -> Result<Vec<u8>> {
    let mut out = header(PRODUCE, PRODUCE_VERSION);
    out.push(0);
    out.extend(acks.to_be_bytes());
    out.extend(30_000_i32.to_be_bytes());
    put_uvarint(&mut out, 2);
    put_compact(&mut out, topic.as_bytes());
    put_uvarint(&mut out, 2);
    out.extend(partition.to_be_bytes());
    put_uvarint(&mut out, batch_bytes + 1);
    finish(&mut out, batch_bytes + PRODUCE_TAIL.len())?;
    Ok(out)
}

/// Calls `each` with partition and records of a Produce request (after its length).
pub fn read_produce<'a>(
    frame: &'a [u8],
    mut each: impl FnMut(&'a [u8], i32, std::ops::Range<usize>) -> Result<()>,
) -> Result<i16> {
    let mut reader = Reader::after_request_header(frame)?;
    reader.compact()?;
    let acks = reader.i16()?;
    reader.i32()?;
    for _ in 0..reader.count()? {
        let topic = reader.compact()?;
        for _ in 0..reader.count()? {
            let partition = reader.i32()?;
            let records = reader.compact()?;
            let end = frame.len() - reader.rest.len();
            each(topic, partition, end - records.len()..end)?;
            reader.tags()?;
        }
        reader.tags()?;
    }
    Ok(acks)
}

/// Fails when a partition of a Produce response has an error.
pub fn check_produce(response: &[u8]) -> Result<()> {
    let mut reader = Reader::after_response_header(response)?;
    for _ in 0..reader.count()? {
        let topic = reader.compact()?;
        for _ in 0..reader.count()? {
            let partition = reader.i32()?;
            let error = reader.i16()?;
            if error != 0 {
                let topic = String::from_utf8_lossy(topic);
                bail!("Produce to {topic}-{partition}: error {error}");
            }
            reader.skip(24)?;
            for _ in 0..reader.count()? {
                reader.i32()?;
                reader.compact()?;
                reader.tags()?;
            }
            reader.compact()?;
            reader.tags()?;
        }
        reader.tags()?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
}

/// A Fetch request without a session; a partition with its fetch offset each.
pub fn fetch(topic: &str, partitions: &[(i32, i64)], limits: FetchLimits) -> Result<Vec<u8>> {
    let mut out = header(FETCH, FETCH_VERSION);
    out.extend((-1_i32).to_be_bytes());
    out.extend(limits.max_wait_ms.to_be_bytes());
    out.extend(limits.min_bytes.to_be_bytes());
    out.extend(limits.max_bytes.to_be_bytes());
    out.push(0);
    out.extend(0_i32.to_be_bytes());
    out.extend((-1_i32).to_be_bytes());
    put_uvarint(&mut out, 2);
    put_compact(&mut out, topic.as_bytes());
    put_uvarint(&mut out, partitions.len() + 1);
    for (partition, offset) in partitions {
        out.extend(partition.to_be_bytes());
        out.extend((-1_i32).to_be_bytes());
        out.extend(offset.to_be_bytes());
        out.extend((-1_i32).to_be_bytes());
        out.extend((-1_i64).to_be_bytes());
        out.extend(limits.partition_max_bytes.to_be_bytes());
        out.push(0);
    }
    out.push(0);
    put_uvarint(&mut out, 1);
    put_compact(&mut out, b"");
    out.push(0);
    finish(&mut out, 0)?;
    Ok(out)
}

/// Topic, partition, fetch offset and most bytes of the partitions of a Fetch request.
pub fn read_fetch<'a>(
    frame: &'a [u8],
    mut each: impl FnMut(&'a [u8], i32, i64, i32) -> Result<()>,
) -> Result<()> {
    let mut reader = Reader::after_request_header(frame)?;
    reader.skip(4 + 4 + 4 + 4 + 1 + 4 + 4)?;
    for _ in 0..reader.count()? {
        let topic = reader.compact()?;
        for _ in 0..reader.count()? {
            let partition = reader.i32()?;
            reader.i32()?;
            let offset = reader.i64()?;
            reader.skip(12)?;
            each(topic, partition, offset, reader.i32()?)?;
            reader.tags()?;
        }
        reader.tags()?;
    }
    Ok(())
}

/// Calls `each` with partition and records of a Fetch response; fails on any error code.
pub fn read_fetched<'a>(
    response: &'a [u8],
    mut each: impl FnMut(i32, &'a [u8]) -> Result<()>,
) -> Result<()> {
    let mut reader = Reader::after_response_header(response)?;
    reader.i32()?;
    let error = reader.i16()?;
    ensure!(error == 0, "Fetch: error {error}");
    reader.i32()?;
    for _ in 0..reader.count()? {
        let topic = reader.compact()?;
        for _ in 0..reader.count()? {
            let partition = reader.i32()?;
            let error = reader.i16()?;
            if error != 0 {
                let topic = String::from_utf8_lossy(topic);
                bail!("Fetch from {topic}-{partition}: error {error}");
            }
            reader.skip(24)?;
            for _ in 0..reader.count()? {
                reader.skip(16)?;
                reader.tags()?;
            }
            reader.i32()?;
            each(partition, reader.compact()?)?;
            reader.tags()?;
        }
        reader.tags()?;
    }
    Ok(())
}

/// Reads the flexible format from the front of what is left.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn after_request_header(frame: &'a [u8]) -> Result<Self> {
        let mut reader = Self { rest: frame };
        reader.skip(8)?;
        let client_id = reader.i16()?;
        reader.skip(usize::try_from(client_id).unwrap_or(0))?;
        reader.tags()?;
        Ok(reader)
    }

    fn after_response_header(response: &'a [u8]) -> Result<Self> {
        let mut reader = Self { rest: response };
        reader.skip(4)?;
        reader.tags()?;
        Ok(reader)
    }

    fn skip(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes).context("a short frame")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().context("a short frame")?;
        self.rest = rest;
        Ok(*taken)
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn uvarint(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a number of more than five bytes")
    }

    /// Of an array; null has none.
    fn count(&mut self) -> Result<usize> {
        Ok(self.uvarint()?.saturating_sub(1))
    }

    fn compact(&mut self) -> Result<&'a [u8]> {
        let length = self.count()?;
        self.skip(length)
    }

    fn tags(&mut self) -> Result<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = self.uvarint()?;
            self.skip(length)?;
        }
        Ok(())
    }
}
