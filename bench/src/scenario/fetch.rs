//! Fetch: catching up from the page cache, many partitions in one request, sessions with nothing new.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Bar, Run, Scenario, Work, figures, target};
use crate::figure::{Figure, Figures};
use crate::load::{Fetch, Produce, Repeat, Watch, latencies, verify};
use crate::records::{Batch, Codec, Totals, take_in};
use crate::system::{Kind, System};
use crate::wire::{self, FetchLimits};

/// What is stored, to be read again and again.
pub(super) struct Stored {
    pub(super) topic: String,
    pub(super) ends: Vec<i64>,
    pub(super) totals: Totals,
}

/// Fills a new topic in batches of 64 KiB and reads it back once.
pub(super) fn store(
    run: &Run<'_>,
    system: &System,
    partitions: i32,
    batch_bytes: usize,
    requests: u64,
) -> Result<Stored> {
    let topic = format!("stored-{}", run.number);
    system.create_topic(&topic, partitions)?;
    let batches: Vec<Batch> = (0..8)
        .map(|seed| Batch::filled(batch_bytes, 1024.min(batch_bytes / 2), Codec::None, seed))
        .collect::<Result<_>>()?;
    let measured = Produce {
        topic: &topic,
        partitions,
        acks: 1,
        idempotent: false,
        batches: Arc::from(batches),
        connections: 2,
        depth: 5,
        requests,
    }
    .run(system)?;
    let from = vec![0; partitions as usize];
    let ends = verify(system, &topic, &from, &measured.totals)?;
    Ok(Stored {
        topic,
        ends,
        totals: measured.totals,
    })
}

/// Reads a topic that is in the page cache from its beginning.
struct CatchUp {
    connections: usize,
    max_bytes: i32,
    stored: BTreeMap<Kind, Stored>,
}

impl CatchUp {
    fn new(connections: usize, max_bytes: i32) -> Self {
        Self {
            connections,
            max_bytes,
            stored: BTreeMap::new(),
        }
    }
}

impl Work for CatchUp {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        let stored = store(run, system, 16, 64 << 10, run.scale.of(8192))?;
        self.stored.insert(system.kind, stored);
        Ok(())
    }

    fn run(&mut self, _: &Run<'_>, system: &mut System) -> Result<Figures> {
        let stored = &self.stored[&system.kind];
        let measured = Fetch {
            topic: &stored.topic,
            from: &vec![0; stored.ends.len()],
            to: &stored.ends,
            connections: self.connections,
            max_bytes: self.max_bytes,
        }
        .run(system)?;
        ensure!(
            measured.totals == stored.totals,
            "{}: what was read is not what is stored",
            system.kind.label()
        );
        Ok(figures(&measured))
    }

    fn finish(&mut self, system: &mut System) -> Result<()> {
        match self.stored.remove(&system.kind) {
            Some(stored) => system.delete_topic(&stored.topic),
            None => Ok(()),
        }
    }
}

/// One request for a little of each of 500 partitions.
struct Wide {
    stored: BTreeMap<Kind, Stored>,
}

const WIDE: i32 = 500;

impl Work for Wide {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        let stored = store(run, system, WIDE, 512, 1000)?;
        self.stored.insert(system.kind, stored);
        Ok(())
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let stored = &self.stored[&system.kind];
        let partitions: Vec<_> = (0..WIDE).map(|partition| (partition, 0)).collect();
        let limits = FetchLimits {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
        };
        let expected = stored.totals;
        let mut measured = Repeat {
            frame: &wire::fetch(&stored.topic, &partitions, limits)?,
            connections: 2,
            depth: 1,
            requests: run.scale.of(600),
            check: &|response| {
                let mut totals = Totals::default();
                wire::read_fetched(response, |partition, records| {
                    take_in(partition, records, 0, &mut totals)?;
                    Ok(())
                })?;
                ensure!(totals == expected, "an answer without all of the records");
                Ok(totals)
            },
        }
        .run(system)?;
        // Bytes are beside the point here.
        measured.totals = Totals::default();
        Ok(figures(&measured))
    }

    fn finish(&mut self, system: &mut System) -> Result<()> {
        match self.stored.remove(&system.kind) {
            Some(stored) => system.delete_topic(&stored.topic),
            None => Ok(()),
        }
    }
}

/// An incremental session over 500 partitions in which nothing happens.
struct Session {
    topics: BTreeMap<Kind, String>,
}

const SESSION_VERSION: i16 = 12;

impl Session {
    fn request(session_id: i32, epoch: i32, topics: Vec<FetchTopic>) -> FetchRequest {
        FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(0)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_id(session_id)
            .with_session_epoch(epoch)
            .with_topics(topics)
    }
}

impl Work for Session {
    fn prepare(&mut self, run: &Run<'_>, system: &mut System) -> Result<()> {
        let topic = format!("session-{}", run.number);
        system.create_topic(&topic, WIDE)?;
        self.topics.insert(system.kind, topic);
        Ok(())
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let topic = &self.topics[&system.kind];
        let all = FetchTopic::default()
            .with_topic(TopicName(StrBytes::from_string(topic.clone())))
            .with_partitions(
                (0..WIDE)
                    .map(|partition| {
                        FetchPartition::default()
                            .with_partition(partition)
                            .with_partition_max_bytes(1 << 20)
                    })
                    .collect(),
            );
        let mut connection = system.connect()?;
        let opened = connection.call(&Self::request(0, 0, vec![all]), SESSION_VERSION)?;
        ensure!(
            opened.error_code == 0 && opened.session_id != 0,
            "no session: {}",
            opened.error_code
        );
        let mut latencies = latencies()?;
        let requests = run.scale.of(3000);
        let watch = Watch::start(system)?;
        for turn in 0..requests {
            let epoch = i32::try_from(turn + 1)?;
            let request = Self::request(opened.session_id, epoch, Vec::new());
            let sent = std::time::Instant::now();
            let answer = connection.call(&request, SESSION_VERSION)?;
            latencies.record(u64::try_from(sent.elapsed().as_nanos())?)?;
            ensure!(answer.error_code == 0, "error {}", answer.error_code);
        }
        let measured = watch.measured(requests, Totals::default(), latencies)?;
        // Ends the session.
        connection.call(
            &Self::request(opened.session_id, -1, Vec::new()),
            SESSION_VERSION,
        )?;
        Ok(figures(&measured))
    }

    fn finish(&mut self, system: &mut System) -> Result<()> {
        match self.topics.remove(&system.kind) {
            Some(topic) => system.delete_topic(&topic),
            None => Ok(()),
        }
    }
}

pub(super) fn catch_up() -> Vec<Scenario> {
    let targets = [
        target("P3", Figure::CpuPerGb, Bar::OfKafka(0.5)),
        target("P3", Figure::CpuPerGb, Bar::OfFloor(0.8)),
    ];
    vec![
        Scenario::shared(
            "fetch-1m",
            "catching up on 512 MB in the page cache, 16 partitions, 1 MiB per fetch, 1 consumer",
            CatchUp::new(1, 1 << 20),
        )
        .targets(&targets)
        .targets(&[target("P3", Figure::CpuPerGb, Bar::AtMost(0.2))]),
        Scenario::shared(
            "fetch-1m-c8",
            "the same with 8 consumers",
            CatchUp::new(8, 1 << 20),
        )
        .targets(&targets),
        Scenario::shared(
            "fetch-64k",
            "the same with 1 consumer and 64 KiB per fetch",
            CatchUp::new(1, 64 << 10),
        )
        .targets(&targets),
    ]
}

pub(super) fn wide() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "fetch-500p",
            "one fetch of 500 partitions with a few hundred bytes each, 2 consumers",
            Wide {
                stored: BTreeMap::new(),
            },
        ),
        Scenario::shared(
            "fetch-session",
            "a fetch session over 500 partitions in which nothing happens, 1 consumer",
            Session {
                topics: BTreeMap::new(),
            },
        )
        .without_floor(),
    ]
}
