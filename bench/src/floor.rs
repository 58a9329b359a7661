//! The floor: what this machine allows a server that keeps none of Kafka's rules. It reads a frame,
//! checks the CRC, sets the base offset, writes with one `pwrite` and answers; a fetch is one
//! `sendfile`. A task per connection on a runtime of two workers, as the broker has; a file and a
//! list of positions per partition. A fetch that finds nothing waits for the next append to the first
//! partition it asks for. No topics, epochs, indexes or sessions.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BytesMut};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{
    ApiKey, DeleteTopicsRequest, DeleteTopicsResponse, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable as _, Encodable, HeaderVersion};
use rustix::fs::{FallocateFlags, fallocate, sendfile};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::records;
use crate::wire::{self, put_compact, put_uvarint};

const FIRST_READ: usize = 64 * 1024;
const RESERVE: u64 = 16 << 20;
/// A smaller piece is cheaper to copy.
const SENDFILE_MIN: usize = 8 * 1024;
const SENDFILE_MAX: usize = 512 * 1024;
/// How long a fetch waits for records.
const MAX_WAIT: Duration = Duration::from_millis(500);

/// Serves until it is killed.
pub fn serve(port: u16, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let store = Arc::new(Store {
        folder: folder.to_owned(),
        partitions: Mutex::default(),
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let mut connection = Connection {
                        stream,
                        store,
                        known: HashMap::new(),
                        out: Vec::new(),
                    };
                    if let Err(error) = connection.run().await {
                        println!("{error:#}");
                    }
                });
            }
        })
}

type Key = (Vec<u8>, i32);

struct Store {
    folder: PathBuf,
    partitions: Mutex<HashMap<Key, Arc<Partition>>>,
}

struct Partition {
    file: File,
    end: Mutex<End>,
    grown: Notify,
}

/// What a fetch gets of one partition.
struct Found {
    index: i32,
    partition: Arc<Partition>,
    position: u64,
    bytes: usize,
    end: i64,
}

#[derive(Default)]
struct End {
    offset: i64,
    position: u64,
    reserved: u64,
    /// Base offset and position of each batch.
    batches: Vec<(i64, u64)>,
}

impl Store {
    fn partition(&self, topic: &[u8], partition: i32) -> Result<Arc<Partition>> {
        let mut partitions = lock(&self.partitions);
        if let Some(found) = partitions.get(&(topic.to_vec(), partition)) {
            return Ok(Arc::clone(found));
        }
        let name = format!("{}-{partition}", String::from_utf8_lossy(topic));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.folder.join(name))?;
        let created = Arc::new(Partition {
            file,
            end: Mutex::default(),
            grown: Notify::new(),
        });
        partitions.insert((topic.to_vec(), partition), Arc::clone(&created));
        Ok(created)
    }

    fn delete(&self, topic: &[u8]) -> Result<()> {
        let mut partitions = lock(&self.partitions);
        let gone: Vec<_> = partitions
            .keys()
            .filter(|(name, _)| name == topic)
            .cloned()
            .collect();
        for key in gone {
            partitions.remove(&key);
            let name = format!("{}-{}", String::from_utf8_lossy(&key.0), key.1);
            std::fs::remove_file(self.folder.join(name))?;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Partition {
    fn append(&self, batch: &mut [u8]) -> Result<i64> {
        let mut end = lock(&self.end);
        let base_offset = end.offset;
        let records = records::accept(batch, base_offset)?;
        let after = end.position + batch.len() as u64;
        if after > 1 << 20 && after > end.reserved {
            end.reserved = after + RESERVE;
            // Only a help: not every file system can.
            let _ = fallocate(
                &self.file,
                FallocateFlags::KEEP_SIZE,
                end.position,
                end.reserved - end.position,
            );
        }
        self.file.write_all_at(batch, end.position)?;
        let position = end.position;
        end.batches.push((base_offset, position));
        end.position = after;
        end.offset += i64::from(records);
        drop(end);
        self.grown.notify_waiters();
        Ok(base_offset)
    }

    /// Where the batches from `offset` on lie, at most `max_bytes` of them, and the end offset.
    fn find(&self, offset: i64, max_bytes: usize) -> (u64, usize, i64) {
        let end = lock(&self.end);
        let at = end.batches.partition_point(|(base, _)| *base < offset);
        let Some(&(_, position)) = end.batches.get(at) else {
            return (0, 0, end.offset);
        };
        let first_end = end.batches.get(at + 1).map_or(end.position, |next| next.1);
        let bytes = (end.position - position).min((first_end - position).max(max_bytes as u64));
        (position, bytes as usize, end.offset)
    }
}

struct Connection {
    stream: TcpStream,
    store: Arc<Store>,
    known: HashMap<Key, Arc<Partition>>,
    out: Vec<u8>,
}

impl Connection {
    async fn run(&mut self) -> Result<()> {
        let mut buffer = BytesMut::with_capacity(FIRST_READ);
        loop {
            while let Some(prefix) = buffer.first_chunk::<4>() {
                let length = u32::from_be_bytes(*prefix) as usize;
                if buffer.len() < 4 + length {
                    buffer.reserve(4 + length - buffer.len());
                    break;
                }
                buffer.advance(4);
                let mut frame = buffer.split_to(length);
                self.handle(&mut frame).await?;
            }
            self.flush(SendFlags::empty()).await?;
            if buffer.capacity() == buffer.len() {
                buffer.reserve(FIRST_READ);
            }
            if self.stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn handle(&mut self, frame: &mut [u8]) -> Result<()> {
        let key = frame.first_chunk::<2>().context("a short frame")?;
        match i16::from_be_bytes(*key) {
            wire::PRODUCE => self.produce(frame),
            wire::FETCH => self.fetch(frame).await,
            _ => self.other(frame),
        }
    }

    fn partition(&mut self, topic: &[u8], partition: i32) -> Result<Arc<Partition>> {
        let key = (topic.to_vec(), partition);
        if let Some(found) = self.known.get(&key) {
            return Ok(Arc::clone(found));
        }
        let found = self.store.partition(topic, partition)?;
        self.known.insert(key, Arc::clone(&found));
        Ok(found)
    }

    fn produce(&mut self, frame: &mut [u8]) -> Result<()> {
        let mut name = Vec::new();
        let mut parts = Vec::with_capacity(1);
        let acks = wire::read_produce(frame, |topic, partition, records| {
            if name.is_empty() {
                name = topic.to_vec();
            }
            parts.push((partition, records));
            Ok(())
        })?;
        let start = self.begin_response(frame);
        put_uvarint(&mut self.out, 2);
        put_compact(&mut self.out, &name);
        put_uvarint(&mut self.out, parts.len() + 1);
        for (partition, records) in parts {
            let found = self.partition(&name, partition)?;
            let base_offset = found.append(&mut frame[records])?;
            self.out.extend(partition.to_be_bytes());
            self.out.extend(0_i16.to_be_bytes());
            self.out.extend(base_offset.to_be_bytes());
            self.out.extend((-1_i64).to_be_bytes());
            self.out.extend(0_i64.to_be_bytes());
            self.out.extend([1, 0, 0]);
        }
        self.out.push(0);
        self.out.extend(0_i32.to_be_bytes());
        self.out.push(0);
        if acks == 0 {
            self.out.truncate(start);
        } else {
            self.end_response(start, 0);
        }
        Ok(())
    }

    /// Partition, offset and most bytes of each, in the order of `wanted`.
    fn find(&mut self, topic: &[u8], wanted: &[(i32, i64, usize)]) -> Result<Vec<Found>> {
        let mut all = Vec::with_capacity(wanted.len());
        for &(index, offset, max_bytes) in wanted {
            let partition = self.partition(topic, index)?;
            let (position, bytes, end) = partition.find(offset, max_bytes);
            all.push(Found {
                index,
                partition,
                position,
                bytes,
                end,
            });
        }
        Ok(all)
    }

    async fn find_or_wait(
        &mut self,
        topic: &[u8],
        wanted: &[(i32, i64, usize)],
    ) -> Result<Vec<Found>> {
        let is_nothing = |found: &[Found]| found.iter().all(|found| found.bytes == 0);
        let found = self.find(topic, wanted)?;
        let first = match found.first() {
            Some(first) if is_nothing(&found) => Arc::clone(&first.partition),
            _ => return Ok(found),
        };
        self.flush(SendFlags::empty()).await?;
        let mut grown = pin!(first.grown.notified());
        grown.as_mut().enable();
        // What came before the last line wakes nobody.
        let found = self.find(topic, wanted)?;
        if !is_nothing(&found) {
            return Ok(found);
        }
        // Nothing, in time, is an answer too.
        let _ = tokio::time::timeout(MAX_WAIT, grown).await;
        self.find(topic, wanted)
    }

    async fn fetch(&mut self, frame: &[u8]) -> Result<()> {
        let mut name = Vec::new();
        let mut wanted = Vec::with_capacity(1);
        wire::read_fetch(frame, |topic, partition, offset, max_bytes| {
            if name.is_empty() {
                name = topic.to_vec();
            }
            wanted.push((partition, offset, usize::try_from(max_bytes)?));
            Ok(())
        })?;
        let found = self.find_or_wait(&name, &wanted).await?;
        let start = self.begin_response(frame);
        self.out.extend([0; 10]);
        put_uvarint(&mut self.out, 2);
        put_compact(&mut self.out, &name);
        put_uvarint(&mut self.out, found.len() + 1);
        // Records lie between pieces of the response: its length is known before it is whole.
        let mut pieces = Vec::with_capacity(found.len());
        let mut records = 0;
        for found in found {
            let Found {
                index,
                partition,
                position,
                bytes,
                end,
            } = found;
            self.out.extend(index.to_be_bytes());
            self.out.extend(0_i16.to_be_bytes());
            self.out.extend(end.to_be_bytes());
            self.out.extend(end.to_be_bytes());
            self.out.extend(0_i64.to_be_bytes());
            self.out.push(0);
            self.out.extend((-1_i32).to_be_bytes());
            put_uvarint(&mut self.out, bytes + 1);
            if bytes < SENDFILE_MIN {
                let at = self.out.len();
                self.out.resize(at + bytes, 0);
                partition
                    .file
                    .read_exact_at(&mut self.out[at..], position)?;
            } else {
                records += bytes;
                pieces.push((self.out.len(), partition, position, bytes));
            }
            self.out.push(0);
        }
        self.out.extend([0; 2]);
        self.end_response(start, records);
        let out = std::mem::take(&mut self.out);
        let mut sent = 0;
        for (at, partition, position, bytes) in pieces {
            self.send(&out[sent..at], SendFlags::MORE).await?;
            self.send_file(&partition.file, position, bytes).await?;
            sent = at;
        }
        self.send(&out[sent..], SendFlags::empty()).await?;
        self.out = out;
        self.out.clear();
        Ok(())
    }

    /// What the generator asks beside its load.
    fn other(&mut self, frame: &[u8]) -> Result<()> {
        let key = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let api = ApiKey::try_from(key).map_err(|()| anyhow::anyhow!("api key {key}"))?;
        let mut body = bytes::Bytes::copy_from_slice(frame);
        RequestHeader::decode(&mut body, api.request_header_version(version))?;
        match api {
            ApiKey::Metadata => self.answer(&MetadataResponse::default(), version),
            ApiKey::InitProducerId => self.answer(&InitProducerIdResponse::default(), version),
            ApiKey::DeleteTopics => {
                let request = DeleteTopicsRequest::decode(&mut body, version)?;
                let mut results = Vec::new();
                for name in request.topic_names {
                    self.store.delete(name.as_bytes())?;
                    results.push(DeletableTopicResult::default().with_name(Some(name)));
                }
                let response = DeleteTopicsResponse::default().with_responses(results);
                self.answer(&response, version)
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode(&mut body, version)?;
                let mut topics = Vec::new();
                for topic in request.topics {
                    let mut partitions = Vec::new();
                    for wanted in topic.partitions {
                        let index = wanted.partition_index;
                        let found = self.partition(topic.name.as_bytes(), index)?;
                        let offset = lock(&found.end).offset;
                        partitions.push(
                            ListOffsetsPartitionResponse::default()
                                .with_partition_index(index)
                                .with_offset(offset),
                        );
                    }
                    topics.push(
                        ListOffsetsTopicResponse::default()
                            .with_name(topic.name)
                            .with_partitions(partitions),
                    );
                }
                let response = ListOffsetsResponse::default().with_topics(topics);
                self.answer(&response, version)
            }
            other => bail!("the floor does not know {other:?}"),
        }
    }

    fn answer<M: Encodable + HeaderVersion>(&mut self, response: &M, version: i16) -> Result<()> {
        let mut bytes = BytesMut::new();
        ResponseHeader::default().encode(&mut bytes, M::header_version(version))?;
        response.encode(&mut bytes, version)?;
        self.out.extend(u32::try_from(bytes.len())?.to_be_bytes());
        self.out.extend_from_slice(&bytes);
        Ok(())
    }

    /// Length to be filled in, correlation id, no tags.
    fn begin_response(&mut self, frame: &[u8]) -> usize {
        let start = self.out.len();
        self.out.extend([0; 4]);
        self.out.extend_from_slice(&frame[4..8]);
        self.out.push(0);
        start
    }

    fn end_response(&mut self, start: usize, further: usize) {
        let length = (self.out.len() - start - 4 + further) as u32;
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    async fn flush(&mut self, flags: SendFlags) -> Result<()> {
        let out = std::mem::take(&mut self.out);
        self.send(&out, flags).await?;
        self.out = out;
        self.out.clear();
        Ok(())
    }

    async fn send(&self, mut bytes: &[u8], flags: SendFlags) -> Result<()> {
        while !bytes.is_empty() {
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                Ok(send(&self.stream, bytes, flags | SendFlags::NOSIGNAL)?)
            });
            match sent {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn send_file(&self, file: &File, mut position: u64, bytes: usize) -> Result<()> {
        let end = position + bytes as u64;
        while position < end {
            let count = (end - position) as usize;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = position;
                Ok(sendfile(
                    &self.stream,
                    file,
                    Some(&mut offset),
                    count.min(SENDFILE_MAX),
                )?)
            });
            match sent {
                Ok(0) => bail!("the file was truncated"),
                Ok(sent) => position += sent as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
