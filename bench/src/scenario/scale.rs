//! How cost grows: idle connections, busy connections, partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use kafka_protocol::messages::{MetadataResponse, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, HeaderVersion as _};

use super::life::settle;
use super::produce::{Load, UNBATCHED};
use super::{Bar, Run, Scenario, Work, figures, target};
use crate::figure::{Figure, Figures};
use crate::load::{Measured, Produce, Repeat, verify};
use crate::records::{Batch, Codec, Totals};
use crate::system::{Kind, METADATA_VERSION, System, metadata_request};
use crate::wire::{Connection, frame};

/// Unbatched produce beside connections that have asked once and then are still.
struct Idle {
    connections: usize,
}

impl Work for Idle {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let before = system.memory("VmRSS")?;
        let count = usize::try_from(run.scale.of(self.connections as u64))?;
        let mut idle: Vec<Connection> = Vec::with_capacity(count);
        for _ in 0..count {
            let mut connection = system.connect()?;
            connection.call(&metadata_request(Some(&[])), METADATA_VERSION)?;
            idle.push(connection);
        }
        let after = system.memory("VmRSS")?;
        let mut load = Load {
            connections: 16,
            requests: 20_000,
            ..UNBATCHED
        };
        let mut found = load.run(run, system)?;
        if let Some((after, before)) = after.zip(before) {
            let each = (after - before) / count as f64;
            found.insert(Figure::RssPerConnection, each / 1024.0);
        }
        Ok(found)
    }
}

/// All connections produce.
struct Busy {
    connections: usize,
}

impl Work for Busy {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        if let Some(pid) = system.pid() {
            // Peak memory counts from here.
            std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        let mut load = Load {
            record_bytes: 1024,
            connections: self.connections,
            requests: 20_000,
            ..UNBATCHED
        };
        let mut found = load.run(run, system)?;
        if let Some(peak) = system.memory("VmHWM")? {
            found.insert(Figure::PeakRss, peak / 1e6);
        }
        Ok(found)
    }
}

pub(super) fn connections() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "connections-10",
            "unbatched produce from 16 connections beside 10 idle ones",
            Idle { connections: 10 },
        ),
        Scenario::shared(
            "connections-10000",
            "the same beside 10,000 idle ones",
            Idle {
                connections: 10_000,
            },
        )
        .targets(&[
            target(
                "P6",
                Figure::CpuPerRequest,
                Bar::OfScenario("connections-10", 1.1),
            ),
            target("P5", Figure::RssPerConnection, Bar::AtMost(6.0)),
        ])
        .at_most_pairs(5),
        Scenario::shared(
            "busy-1000",
            "1,000 connections that produce, one record of 1 KiB per request; peak RSS",
            Busy { connections: 1000 },
        )
        .targets(&[target("P5", Figure::PeakRss, Bar::OfKafka(1.0 / 8.0))]),
    ]
}

/// Unbatched produce to each partition of a topic in turn. The topic stays for all runs.
struct Partitions {
    partitions: i32,
    /// Whether the topic stays behind for others.
    stays: bool,
    topics: BTreeMap<Kind, (String, Vec<i64>)>,
}

impl Partitions {
    fn new(partitions: i32, stays: bool) -> Self {
        Self {
            partitions,
            stays,
            topics: BTreeMap::new(),
        }
    }

    fn produce(&mut self, run: &Run<'_>, system: &System, requests: u64) -> Result<Measured> {
        let Some((topic, ends)) = self.topics.get_mut(&system.kind) else {
            anyhow::bail!("not prepared");
        };
        let batches: Vec<Batch> = (0..8)
            .map(|seed| Batch::filled(0, 100, Codec::None, seed + u64::from(run.number)))
            .collect::<Result<_>>()?;
        let measured = Produce {
            topic,
            partitions: self.partitions,
            acks: 1,
            idempotent: false,
            batches: Arc::from(batches),
            connections: 16,
            depth: 1,
            requests,
        }
        .run(system)?;
        *ends = verify(system, topic, ends, &measured.totals)?;
        Ok(measured)
    }
}

impl Work for Partitions {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        let topic = format!("wide-{}", run.number);
        system.create_topic(&topic, self.partitions)?;
        self.topics
            .insert(system.kind, (topic, vec![0; self.partitions as usize]));
        // The first append to a partition makes files; that is not what is asked here.
        let all = (self.partitions as u64).next_multiple_of(16);
        self.produce(run, system, all).map(drop)
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let measured = self.produce(run, system, run.scale.of(30_000))?;
        Ok(figures(&measured))
    }

    fn finish(&mut self, system: &mut System) -> Result<()> {
        match self.topics.remove(&system.kind) {
            Some((topic, _)) if !self.stays => system.delete_topic(&topic),
            _ => Ok(()),
        }
    }
}

pub(super) fn partitions() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "partitions-1",
            "unbatched produce from 16 connections to one partition",
            Partitions::new(1, false),
        ),
        Scenario::shared(
            "partitions-1000",
            "the same to 1,000 partitions in turn",
            Partitions::new(1000, false),
        )
        .targets(&[target(
            "P6",
            Figure::CpuPerRequest,
            Bar::OfScenario("partitions-1", 1.15),
        )]),
    ]
}

/// Sees to it that there are 10,000 partitions: `partitions-10000` leaves them behind, if it ran.
fn have_ten_thousand(run: &Run<'_>, system: &System) -> Result<()> {
    if connect_and_count(system)? >= 10_000 {
        return Ok(());
    }
    system.create_topic(&format!("wide-{}", run.number), 10_000)
}

/// Metadata of all topics.
struct Metadata;

impl Work for Metadata {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        have_ten_thousand(run, system)
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let request = frame(&metadata_request(None), METADATA_VERSION)?;
        let mut connection = system.connect()?;
        connection.send(&request)?;
        let first = connection.receive()?.to_vec();
        let mut body = bytes::Bytes::copy_from_slice(&first);
        ResponseHeader::decode(
            &mut body,
            MetadataResponse::header_version(METADATA_VERSION),
        )?;
        let answer = MetadataResponse::decode(&mut body, METADATA_VERSION)?;
        let partitions: usize = answer
            .topics
            .iter()
            .map(|topic| topic.partitions.len())
            .sum();
        ensure!(partitions >= 10_000, "{partitions} partitions in Metadata");
        let measured = Repeat {
            frame: &request,
            connections: 2,
            depth: 1,
            requests: run.scale.of(300),
            check: &|response| {
                ensure!(
                    response.len() == first.len(),
                    "an answer of {} bytes, the first had {}",
                    response.len(),
                    first.len()
                );
                Ok(Totals::default())
            },
        }
        .run(system)?;
        Ok(figures(&measured))
    }
}

/// Stop, and start with what is there.
struct Restart;

impl Work for Restart {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        have_ten_thousand(run, system)
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let all = connect_and_count(system)?;
        let stopping = Instant::now();
        system.stop()?;
        let stopped = stopping.elapsed();
        settle();
        let started = Instant::now();
        let took = system.start(&run.launcher.places)?;
        while connect_and_count(system)? < all {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let mut found = Figures::from([
            (Figure::Stop, stopped.as_secs_f64() * 1e3),
            (Figure::FirstAnswer, took.as_secs_f64() * 1e3),
            (Figure::AllLeaders, started.elapsed().as_secs_f64() * 1e3),
        ]);
        if let Some(rss) = system.memory("VmRSS")? {
            found.insert(Figure::Rss, rss / 1e6);
        }
        Ok(found)
    }
}

/// Partitions that have a leader, as Metadata tells.
fn connect_and_count(system: &System) -> Result<usize> {
    let answer = system
        .connect()?
        .call(&metadata_request(None), METADATA_VERSION)?;
    Ok(answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .filter(|partition| partition.error_code == 0 && partition.leader_id.0 >= 0)
        .count())
}

pub(super) fn ten_thousand() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "partitions-10000",
            "unbatched produce from 16 connections to 10,000 partitions in turn",
            Partitions::new(10_000, true),
        )
        .targets(&[target(
            "P6",
            Figure::CpuPerRequest,
            Bar::OfScenario("partitions-1", 1.25),
        )])
        .at_most_pairs(5),
        Scenario::shared(
            "metadata-10000",
            "Metadata of all topics, 10,000 partitions, 2 connections",
            Metadata,
        )
        .without_floor()
        .at_most_pairs(5),
        Scenario::shared(
            "restart-10000",
            "clean stop and start with 10,000 partitions",
            Restart,
        )
        .targets(&[
            target("P5", Figure::FirstAnswer, Bar::AtMost(500.0)),
            target("P5", Figure::AllLeaders, Bar::OfKafka(0.1)),
        ])
        .without_floor()
        .at_most_pairs(3),
    ]
}
