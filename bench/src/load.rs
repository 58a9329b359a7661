//! The lean generator: requests are encoded before the clock starts, connections are plain blocking
//! sockets, a thread each. Everything a run writes is counted, so that it can be read back and
//! compared; a run whose records are not all there is an error, not a slow run.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use hdrhistogram::Histogram;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::process::own_cpu_seconds;
use crate::records::{Batch, Totals, take_in};
use crate::system::System;
use crate::wire::{self, Connection, FetchLimits, PRODUCE_TAIL};

/// Threads do little more than move bytes.
const STACK: usize = 256 * 1024;
/// Latencies are counted in nanoseconds, to three digits.
const DIGITS: u8 = 3;
/// Requests of a connection that are sent with one call at most.
const BURST: usize = 64;

pub type Latencies = Histogram<u64>;

pub fn latencies() -> Result<Latencies> {
    Ok(Histogram::new(DIGITS)?)
}

fn record(latencies: &mut Latencies, elapsed: Duration) -> Result<()> {
    Ok(latencies.record(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))?)
}

/// What one run cost.
pub struct Measured {
    pub seconds: f64,
    /// Of the broker; `None` when its process is not known.
    pub broker_cpu: Option<f64>,
    pub client_cpu: f64,
    pub requests: u64,
    pub totals: Totals,
    pub latencies: Latencies,
}

/// A stop watch over the broker's process and our own.
pub struct Watch<'a> {
    system: &'a System,
    broker: Option<f64>,
    client: f64,
    started: Instant,
}

impl<'a> Watch<'a> {
    pub fn start(system: &'a System) -> Result<Self> {
        Ok(Self {
            system,
            broker: system.cpu_seconds()?,
            client: own_cpu_seconds()?,
            started: Instant::now(),
        })
    }

    /// Wall, broker and client seconds.
    pub fn stop(&self) -> Result<(f64, Option<f64>, f64)> {
        let seconds = self.started.elapsed().as_secs_f64();
        let client = own_cpu_seconds()? - self.client;
        let broker = self
            .system
            .cpu_seconds()?
            .zip(self.broker)
            .map(|(now, before)| now - before);
        Ok((seconds, broker, client))
    }
}

impl Watch<'_> {
    /// Stops, with what was done meanwhile.
    pub fn measured(
        &self,
        requests: u64,
        totals: Totals,
        latencies: Latencies,
    ) -> Result<Measured> {
        let (seconds, broker_cpu, client_cpu) = self.stop()?;
        Ok(Measured {
            seconds,
            broker_cpu,
            client_cpu,
            requests,
            totals,
            latencies,
        })
    }
}

/// Runs one worker per connection; the clock starts when all are connected.
fn run_workers<W>(system: &System, workers: Vec<W>) -> Result<Measured>
where
    W: FnOnce(&mut Connection, &Barrier) -> Result<(u64, Totals, Latencies)> + Send,
{
    let barrier = Barrier::new(workers.len() + 1);
    thread::scope(|scope| {
        let mut threads = Vec::with_capacity(workers.len());
        let mut connections = Vec::with_capacity(workers.len());
        for _ in 0..workers.len() {
            connections.push(system.connect()?);
        }
        for (worker, mut connection) in workers.into_iter().zip(connections) {
            let barrier = &barrier;
            let builder = thread::Builder::new().stack_size(STACK);
            threads.push(builder.spawn_scoped(scope, move || worker(&mut connection, barrier))?);
        }
        barrier.wait();
        let watch = Watch::start(system)?;
        let mut finished = Vec::with_capacity(threads.len());
        for thread in threads {
            finished.push(thread.join().map_err(|_| anyhow!("a worker panicked"))?);
        }
        let mut measured = watch.measured(0, Totals::default(), latencies()?)?;
        for worker in finished {
            let (requests, totals, latencies) = worker?;
            measured.requests += requests;
            measured.totals.merge(&totals);
            measured.latencies.add(latencies)?;
        }
        Ok(measured)
    })
}

/// Produce in a closed loop.
pub struct Produce<'a> {
    pub topic: &'a str,
    pub partitions: i32,
    pub acks: i16,
    pub idempotent: bool,
    /// Sent in turn.
    pub batches: Arc<[Batch]>,
    pub connections: usize,
    /// Requests in flight per connection.
    pub depth: usize,
    /// Over all connections.
    pub requests: u64,
}

impl Produce<'_> {
    pub fn run(&self, system: &System) -> Result<Measured> {
        let heads = self.heads()?;
        let share = self.requests.div_ceil(self.connections as u64);
        let workers = (0..self.connections)
            .map(|number| {
                let heads = &heads;
                move |connection: &mut Connection, barrier: &Barrier| {
                    let producer = Producer::new(self, heads, number, connection);
                    // Also when it failed: the others wait for all.
                    barrier.wait();
                    producer?.run(connection, share)
                }
            })
            .collect();
        run_workers(system, workers)
    }

    /// By partition, then by batch: what comes before the batch.
    fn heads(&self) -> Result<Vec<Vec<Vec<u8>>>> {
        (0..self.partitions)
            .map(|partition| {
                self.batches
                    .iter()
                    .map(|batch| {
                        wire::produce_head(self.topic, partition, self.acks, batch.bytes.len())
                    })
                    .collect()
            })
            .collect()
    }
}

/// One connection of a [`Produce`].
struct Producer<'a> {
    spec: &'a Produce<'a>,
    heads: &'a [Vec<Vec<u8>>],
    /// Its own copies, numbered as they are sent, and the next sequence of each partition.
    numbered: Option<(Vec<Batch>, i64, i16, Vec<i32>)>,
    number: usize,
    sent: u64,
    totals: Totals,
}

/// Kafka asks to come again while it gets its first block of ids.
fn producer_id(connection: &mut Connection) -> Result<InitProducerIdResponse> {
    const LOADING: i16 = 14;
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let response = connection.call(&request, 4)?;
        match response.error_code {
            0 => return Ok(response),
            LOADING if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            other => bail!("InitProducerId: error {other}"),
        }
    }
}

impl<'a> Producer<'a> {
    fn new(
        spec: &'a Produce<'a>,
        heads: &'a [Vec<Vec<u8>>],
        number: usize,
        connection: &mut Connection,
    ) -> Result<Self> {
        let numbered = if spec.idempotent {
            let response = producer_id(connection)?;
            // As many copies as may be in flight at once: one that waits to be sent must not change.
            let copies = spec.batches.iter().cycle().take(spec.depth).cloned();
            Some((
                copies.collect(),
                response.producer_id.0,
                response.producer_epoch,
                vec![0; spec.partitions as usize],
            ))
        } else {
            None
        };
        Ok(Self {
            spec,
            heads,
            numbered,
            number,
            sent: 0,
            totals: Totals::default(),
        })
    }

    fn run(&mut self, connection: &mut Connection, share: u64) -> Result<(u64, Totals, Latencies)> {
        let mut latencies = latencies()?;
        let mut in_flight: VecDeque<Instant> = VecDeque::with_capacity(self.spec.depth);
        if self.spec.acks == 0 {
            while self.sent < share {
                self.send(connection, 1)?;
            }
            // Answered when all that was sent before on this connection has been handled.
            connection.call(&crate::system::metadata_request(Some(&[])), 12)?;
            return Ok((share, self.totals, latencies));
        }
        let mut answered = 0;
        while answered < share {
            let room = self.spec.depth - in_flight.len();
            let burst = room.min(BURST).min((share - self.sent) as usize);
            if burst > 0 {
                let now = Instant::now();
                in_flight.extend((0..burst).map(|_| now));
                self.send(connection, burst)?;
            }
            loop {
                wire::check_produce(connection.receive()?)?;
                let sent = in_flight
                    .pop_front()
                    .context("an answer nobody asked for")?;
                record(&mut latencies, sent.elapsed())?;
                answered += 1;
                if in_flight.is_empty() || !connection.has_response() {
                    break;
                }
            }
        }
        Ok((share, self.totals, latencies))
    }

    /// The next `burst` requests, with one call.
    fn send(&mut self, connection: &mut Connection, burst: usize) -> Result<()> {
        let spec = self.spec;
        let first = self.sent;
        self.sent += burst as u64;
        let partition_of =
            |at: u64| (self.number as u64 + at * spec.connections as u64) % spec.partitions as u64;
        if let Some((copies, producer_id, epoch, sequences)) = &mut self.numbered {
            for at in first..first + burst as u64 {
                let partition = partition_of(at) as usize;
                let slot = at as usize % copies.len();
                let copy = &mut copies[slot];
                copy.number(*producer_id, *epoch, sequences[partition]);
                sequences[partition] =
                    sequences[partition].wrapping_add(copy.records as i32) & i32::MAX;
            }
        }
        let batches: &[Batch] = match &self.numbered {
            Some((copies, ..)) => copies,
            None => &spec.batches,
        };
        let mut parts = Vec::with_capacity(3 * burst);
        for at in first..first + burst as u64 {
            let partition = partition_of(at) as usize;
            let slot = at as usize % batches.len();
            let batch = &batches[slot];
            self.totals.add(
                partition as i32,
                batch.records,
                batch.bytes.len(),
                batch.crc,
            );
            let head = &self.heads[partition][slot % spec.batches.len()];
            parts.push(IoSlice::new(head));
            parts.push(IoSlice::new(&batch.bytes));
            parts.push(IoSlice::new(&PRODUCE_TAIL));
        }
        connection.send_parts(&mut parts)
    }
}

/// Reads a topic from the offsets `from` to the end of what `expected` says.
pub struct Fetch<'a> {
    pub topic: &'a str,
    pub from: &'a [i64],
    /// Exclusive.
    pub to: &'a [i64],
    pub connections: usize,
    /// Of one request, which asks for one partition.
    pub max_bytes: i32,
}

impl Fetch<'_> {
    /// Each connection reads partitions of its own, one after the other.
    pub fn run(&self, system: &System) -> Result<Measured> {
        let limits = FetchLimits {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: self.max_bytes,
            partition_max_bytes: self.max_bytes,
        };
        let workers = (0..self.connections)
            .map(|number| {
                move |connection: &mut Connection, barrier: &Barrier| {
                    let mut totals = Totals::default();
                    let mut latencies = latencies()?;
                    let mut requests = 0;
                    barrier.wait();
                    for partition in (number..self.from.len()).step_by(self.connections) {
                        let index = i32::try_from(partition)?;
                        let mut offset = self.from[partition];
                        let mut progress = Instant::now();
                        while offset < self.to[partition] {
                            let request = wire::fetch(self.topic, &[(index, offset)], limits)?;
                            let sent = Instant::now();
                            connection.send(&request)?;
                            let response = connection.receive()?;
                            record(&mut latencies, sent.elapsed())?;
                            requests += 1;
                            let before = offset;
                            wire::read_fetched(response, |partition, records| {
                                ensure!(partition == index, "an answer for {partition}");
                                offset = take_in(partition, records, offset, &mut totals)?;
                                Ok(())
                            })?;
                            if offset > before {
                                progress = Instant::now();
                            }
                            ensure!(
                                progress.elapsed() < Duration::from_secs(20),
                                "{}-{partition}: nothing from offset {offset} on, {} were acknowledged",
                                self.topic,
                                self.to[partition]
                            );
                        }
                    }
                    Ok((requests, totals, latencies))
                }
            })
            .collect();
        run_workers(system, workers)
    }
}

/// How many records each partition takes of a [`Produce`] that answers `totals`: read back, compare,
/// and fail when anything is missing, doubled or changed.
pub fn verify(system: &System, topic: &str, from: &[i64], expected: &Totals) -> Result<Vec<i64>> {
    let to = end_offsets(system, topic, from.len())?;
    let read = Fetch {
        topic,
        from,
        to: &to,
        connections: 1,
        max_bytes: 8 << 20,
    }
    .run(system)?;
    ensure!(
        read.totals == *expected,
        "{}: what was acknowledged is not what is stored: {expected:?} was sent, {:?} read",
        system.kind.label(),
        read.totals
    );
    Ok(to)
}

/// The offset after the last record of each partition.
pub fn end_offsets(system: &System, topic: &str, partitions: usize) -> Result<Vec<i64>> {
    use kafka_protocol::messages::ListOffsetsRequest;
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    const LATEST: i64 = -1;
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(kafka_protocol::messages::TopicName(
                    kafka_protocol::protocol::StrBytes::from_string(topic.to_owned()),
                ))
                .with_partitions(
                    (0..partitions as i32)
                        .map(|partition| {
                            ListOffsetsPartition::default()
                                .with_partition_index(partition)
                                .with_timestamp(LATEST)
                        })
                        .collect(),
                ),
        ]);
    let response = system.connect()?.call(&request, 7)?;
    let mut ends = vec![0; partitions];
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        ensure!(
            partition.error_code == 0,
            "ListOffsets: error {} for partition {}",
            partition.error_code,
            partition.partition_index
        );
        let slot = ends
            .get_mut(partition.partition_index as usize)
            .context("a partition nobody asked for")?;
        *slot = partition.offset;
    }
    Ok(ends)
}

/// The same request again and again, in a closed loop.
pub struct Repeat<'a> {
    pub frame: &'a [u8],
    pub connections: usize,
    pub depth: usize,
    /// Over all connections.
    pub requests: u64,
    /// Looks at an answer, and says what records it had.
    pub check: &'a (dyn Fn(&[u8]) -> Result<Totals> + Sync),
}

impl Repeat<'_> {
    pub fn run(&self, system: &System) -> Result<Measured> {
        let share = self.requests.div_ceil(self.connections as u64);
        let worker = |connection: &mut Connection, barrier: &Barrier| {
            let mut totals = Totals::default();
            let mut latencies = latencies()?;
            let mut in_flight: VecDeque<Instant> = VecDeque::with_capacity(self.depth);
            let mut sent = 0;
            barrier.wait();
            for _ in 0..share {
                while in_flight.len() < self.depth && sent < share {
                    in_flight.push_back(Instant::now());
                    connection.send(self.frame)?;
                    sent += 1;
                }
                totals.merge(&(self.check)(connection.receive()?)?);
                let sent = in_flight
                    .pop_front()
                    .context("an answer nobody asked for")?;
                record(&mut latencies, sent.elapsed())?;
            }
            Ok((share, totals, latencies))
        };
        run_workers(system, vec![worker; self.connections])
    }
}

/// Requests that are due at a fixed rate whether or not answers come: an answer is as late as it is
/// after the time its request was due (no coordinated omission).
pub struct Paced {
    /// Over all connections, per second.
    pub rate: u64,
    pub connections: usize,
    /// Over all connections.
    pub requests: u64,
}

/// When the nth of all requests is due.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Instant,
    rate: u64,
}

impl Schedule {
    pub fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos(number * 1_000_000_000 / self.rate)
    }
}

impl Paced {
    /// `request(n)` makes the nth request, `check` looks at an answer. `beside` runs meanwhile, on the
    /// same schedule. Answers the number of requests and the latencies of the answers.
    pub fn run<T: Send>(
        &self,
        system: &System,
        request: &(dyn Fn(u64) -> Result<Vec<u8>> + Sync),
        check: &(dyn Fn(&[u8]) -> Result<()> + Sync),
        beside: impl FnOnce(Schedule) -> Result<T> + Send,
    ) -> Result<(Measured, T)> {
        let mut connections = Vec::new();
        for _ in 0..self.connections {
            connections.push(system.connect()?);
        }
        let stride = self.connections as u64;
        let watch = Watch::start(system)?;
        let schedule = Schedule {
            // Enough for all threads to be there.
            start: Instant::now() + Duration::from_millis(20),
            rate: self.rate,
        };
        thread::scope(|scope| {
            let mut senders = Vec::new();
            let mut readers = Vec::new();
            for (connection, number) in connections.iter_mut().zip(0..) {
                let mut writer = connection.writer()?;
                senders.push(scope.spawn(move || {
                    // Sleep as short as asked; without it the kernel adds up to 50 µs.
                    nix::sys::prctl::set_timerslack(1)?;
                    for due in (number..self.requests).step_by(self.connections) {
                        let request = request(due)?;
                        thread::sleep(schedule.due(due).saturating_duration_since(Instant::now()));
                        send_all(&mut writer, &request)?;
                    }
                    Ok(())
                }));
                readers.push(scope.spawn(move || {
                    let mut latencies = latencies()?;
                    for due in (number..self.requests).step_by(stride as usize) {
                        check(connection.receive()?)?;
                        let late = Instant::now().saturating_duration_since(schedule.due(due));
                        record(&mut latencies, late)?;
                    }
                    Ok(latencies)
                }));
            }
            let beside = beside(schedule);
            let mut all = latencies()?;
            let sent: Vec<Result<()>> = join(senders)?;
            let read: Vec<Result<Latencies>> = join(readers)?;
            sent.into_iter().collect::<Result<()>>()?;
            for latencies in read {
                all.add(latencies?)?;
            }
            let beside = beside?;
            let measured = watch.measured(self.requests, Totals::default(), all)?;
            Ok((measured, beside))
        })
    }
}

fn send_all(writer: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    Ok(writer.write_all(bytes)?)
}

fn join<T>(threads: Vec<thread::ScopedJoinHandle<'_, T>>) -> Result<Vec<T>> {
    threads
        .into_iter()
        .map(|thread| thread.join().map_err(|_| anyhow!("a worker panicked")))
        .collect()
}
