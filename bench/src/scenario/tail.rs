//! A consumer that waits at the end of a partition: latency at fixed rates, and what a reader of cold
//! data does to producers.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::fs::{Advice, fadvise};

use super::fetch::{Stored, store};
use super::{Bar, Run, Scenario, Work, figures, quantiles, target};
use crate::figure::{Figure, Figures};
use crate::load::{Fetch, Latencies, Measured, Paced, Schedule, latencies};
use crate::records::{Batch, Codec, Totals, take_in};
use crate::system::{Kind, System};
use crate::wire::{self, FetchLimits, PRODUCE_TAIL};

const LIMITS: FetchLimits = FetchLimits {
    max_wait_ms: 500,
    min_bytes: 1,
    max_bytes: 50 << 20,
    partition_max_bytes: 1 << 20,
};
/// Nothing new for so long means that records were lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// One record of 100 B per request at a fixed rate to one partition.
struct Tail {
    /// Records per second.
    rate: u64,
    seconds: u64,
}

/// Whole Produce requests of one record each, to each partition in turn, and the batches in them.
fn requests(topic: &str, partitions: i32) -> Result<Vec<(Vec<u8>, Batch)>> {
    (0..16 * partitions)
        .map(|number| {
            let batch = Batch::filled(0, 100, Codec::None, number as u64)?;
            let partition = number % partitions;
            let mut request = wire::produce_head(topic, partition, 1, batch.bytes.len())?;
            request.extend_from_slice(&batch.bytes);
            request.extend_from_slice(&PRODUCE_TAIL);
            Ok((request, batch))
        })
        .collect()
}

/// Produces on schedule; answers what was sent too.
pub(super) fn produce<T: Send>(
    system: &System,
    topic: &str,
    partitions: i32,
    paced: &Paced,
    beside: impl FnOnce(Schedule) -> Result<T> + Send,
) -> Result<(Measured, Totals, T)> {
    let made = requests(topic, partitions)?;
    let nth = |number: u64| &made[number as usize % made.len()];
    let (measured, beside) = paced.run(
        system,
        &|number| Ok(nth(number).0.clone()),
        &wire::check_produce,
        beside,
    )?;
    let mut sent = Totals::default();
    for number in 0..paced.requests {
        let batch = &nth(number).1;
        let partition = (number % partitions as u64) as i32;
        sent.add(partition, batch.records, batch.bytes.len(), batch.crc);
    }
    Ok((measured, sent, beside))
}

/// Reads until `records` are there. Record n is at offset n, so its time is known.
fn consume(
    system: &System,
    topic: &str,
    records: u64,
    schedule: Schedule,
) -> Result<(Totals, Latencies)> {
    let mut connection = system.connect()?;
    let mut totals = Totals::default();
    let mut latencies = latencies()?;
    let mut offset = 0;
    let mut progress = Instant::now();
    while totals.records < records {
        connection.send(&wire::fetch(topic, &[(0, offset)], LIMITS)?)?;
        let before = offset;
        wire::read_fetched(connection.receive()?, |partition, records| {
            offset = take_in(partition, records, offset, &mut totals)?;
            Ok(())
        })?;
        let now = Instant::now();
        for number in before..offset {
            let late = now.saturating_duration_since(schedule.due(number.unsigned_abs()));
            latencies.record(u64::try_from(late.as_nanos())?)?;
        }
        if offset > before {
            progress = now;
        }
        ensure!(
            progress.elapsed() < PATIENCE,
            "{topic}: {} of {records} records came",
            totals.records
        );
    }
    Ok((totals, latencies))
}

impl Work for Tail {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let topic = format!("tail-{}", run.number);
        system.create_topic(&topic, 1)?;
        let records = run.scale.of(self.rate * self.seconds);
        let paced = Paced {
            rate: self.rate,
            connections: 1,
            requests: records,
        };
        let (measured, sent, (read, latencies)) = produce(system, &topic, 1, &paced, |schedule| {
            consume(system, &topic, records, schedule)
        })?;
        ensure!(sent == read, "{sent:?} was sent, {read:?} read");
        system.delete_topic(&topic)?;
        let mut figures = figures(&measured);
        // Given, not measured.
        figures.remove(&Figure::RequestsPerSecond);
        quantiles(
            &mut figures,
            [
                Figure::EndToEndP50,
                Figure::EndToEndP99,
                Figure::EndToEndP999,
            ],
            &latencies,
        );
        Ok(figures)
    }
}

pub(super) fn fixed_rates() -> Vec<Scenario> {
    let of = |name, about, rate| {
        Scenario::shared(name, about, Tail { rate, seconds: 2 }).targets(&[
            target("P4", Figure::EndToEndP50, Bar::OfKafka(0.25)),
            target("P4", Figure::EndToEndP99, Bar::OfKafka(0.5)),
        ])
    };
    vec![
        of(
            "tail-500",
            "500 records of 100 B per second, one per request, acks=1, and a consumer that waits for them",
            500,
        ),
        of("tail-2000", "the same at 2,000 per second", 2_000),
        of("tail-10000", "the same at 10,000 per second", 10_000),
    ]
}

/// Producers at a fixed rate, first alone, then beside a reader of what is only on the disk.
struct ColdReader {
    stored: BTreeMap<Kind, Stored>,
}

impl ColdReader {
    /// Puts the topic's files on the disk and out of the page cache. Those of the floor stay there: what
    /// it does to producers then is what serving alone costs those who share the cores.
    fn chill(system: &System, topic: &str) -> Result<()> {
        if system.kind == Kind::Floor {
            return Ok(());
        }
        let prefix = format!("{topic}-");
        for folder in std::fs::read_dir(system.data())? {
            let folder = folder?;
            if !folder.file_name().to_string_lossy().starts_with(&prefix) {
                continue;
            }
            for file in std::fs::read_dir(folder.path())? {
                let file = File::open(file?.path())?;
                file.sync_all()?;
                fadvise(&file, 0, None, Advice::DontNeed)?;
            }
        }
        Ok(())
    }

    /// Reads all that is stored; answers bytes per second.
    fn read(system: &System, stored: &Stored) -> Result<f64> {
        let fetch = Fetch {
            topic: &stored.topic,
            from: &vec![0; stored.ends.len()],
            to: &stored.ends,
            connections: 1,
            max_bytes: 1 << 20,
        };
        let read = fetch.run(system)?;
        ensure!(
            read.totals == stored.totals,
            "what was read is not what is stored"
        );
        Ok(read.totals.bytes as f64 / read.seconds)
    }
}

impl Work for ColdReader {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        let stored = store(run, system, 4, 64 << 10, run.scale.of(8192))?;
        self.stored.insert(system.kind, stored);
        Ok(())
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let stored = &self.stored[&system.kind];
        let paced = Paced {
            rate: 2_000,
            connections: 1,
            requests: run.scale.of(3_000),
        };
        let system = &*system;
        let mut p99 = Vec::new();
        let mut found = Figures::new();
        for is_read in [false, true] {
            let topic = format!("beside-{}-{is_read}", run.number);
            system.create_topic(&topic, 1)?;
            Self::chill(system, &stored.topic)?;
            let (measured, _, read) = produce(system, &topic, 1, &paced, |_| {
                is_read.then(|| Self::read(system, stored)).transpose()
            })?;
            if let Some(read) = read {
                found.insert(Figure::MbPerSecond, read / 1e6);
            }
            let quantiles = figures(&measured);
            p99.push(quantiles[&Figure::P99]);
            if is_read {
                found.extend([Figure::P50, Figure::P99].map(|name| (name, quantiles[&name])));
            }
            system.delete_topic(&topic)?;
        }
        found.insert(Figure::P99Growth, p99[1] / p99[0]);
        Ok(found)
    }

    fn finish(&mut self, system: &mut System) -> Result<()> {
        match self.stored.remove(&system.kind) {
            Some(stored) => system.delete_topic(&stored.topic),
            None => Ok(()),
        }
    }
}

pub(super) fn cold_reader() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "cold-reader",
            "2,000 records per second produced while a consumer reads 512 MB that are only on the disk; the floor serves them from the page cache",
            ColdReader {
                stored: BTreeMap::new(),
            },
        )
        .targets(&[target("P3", Figure::P99Growth, Bar::AtMost(1.5))])
        .at_most_pairs(5),
    ]
}
