//! Produce: batched, and one record per request.

use std::sync::Arc;

use anyhow::Result;

use super::{Bar, Run, Scenario, Work, figures, target};
use crate::figure::{Figure, Figures};
use crate::load::{Produce, verify};
use crate::records::{Batch, Codec};
use crate::system::System;

/// One kind of load; a topic of its own per run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) record_bytes: usize,
    /// Before compression; 0 is one record.
    pub(super) batch_bytes: usize,
    pub(super) partitions: i32,
    pub(super) acks: i16,
    pub(super) codec: Codec,
    pub(super) idempotent: bool,
    pub(super) connections: usize,
    pub(super) depth: usize,
    pub(super) requests: u64,
}

impl Work for Load {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let topic = format!("produce-{}", run.number);
        system.create_topic(&topic, self.partitions)?;
        let batches: Vec<Batch> = (0..8)
            .map(|seed| Batch::filled(self.batch_bytes, self.record_bytes, self.codec, seed))
            .collect::<Result<_>>()?;
        let measured = Produce {
            topic: &topic,
            partitions: self.partitions,
            acks: self.acks,
            idempotent: self.idempotent,
            batches: Arc::from(batches),
            connections: self.connections,
            depth: self.depth,
            requests: run.scale.of(self.requests),
        }
        .run(system)?;
        let from = vec![0; self.partitions as usize];
        verify(system, &topic, &from, &measured.totals)?;
        system.delete_topic(&topic)?;
        Ok(figures(&measured))
    }
}

const BATCHED: Load = Load {
    record_bytes: 1024,
    batch_bytes: 16 << 10,
    partitions: 16,
    acks: 1,
    codec: Codec::None,
    idempotent: false,
    connections: 2,
    depth: 5,
    requests: 16_384,
};

pub(super) fn batched() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "produce-1k-16k",
            "records of 1 KiB in batches of 16 KiB, 16 partitions, acks=1, 2 connections with 5 requests in flight",
            BATCHED,
        )
        .targets(&[
            target("P1", Figure::CpuPerGb, Bar::OfKafka(1.0 / 4.0)),
            target("P1", Figure::CpuPerGb, Bar::OfFloor(0.7)),
            target("P1", Figure::CpuPerGb, Bar::AtMost(0.7)),
        ]),
        Scenario::shared(
            "produce-1k-1m",
            "the same in batches of 1 MiB",
            Load { batch_bytes: 1 << 20, requests: 512, ..BATCHED },
        )
        .targets(&[
            target("P1", Figure::CpuPerGb, Bar::OfKafka(1.0 / 3.0)),
            target("P1", Figure::CpuPerGb, Bar::OfFloor(0.7)),
            target("P1", Figure::CpuPerGb, Bar::AtMost(0.7)),
        ]),
    ]
}

pub(super) const UNBATCHED: Load = Load {
    record_bytes: 100,
    batch_bytes: 0,
    connections: 1,
    depth: 1,
    requests: 10_000,
    ..BATCHED
};

pub(super) fn unbatched() -> Vec<Scenario> {
    let of = |name, about, connections, depth, requests| {
        let load = Load {
            connections,
            depth,
            requests,
            ..UNBATCHED
        };
        Scenario::shared(name, about, load).targets(&[
            target("P2", Figure::CpuPerRequest, Bar::OfKafka(1.0 / 5.0)),
            target("P2", Figure::CpuPerRequest, Bar::OfFloor(0.7)),
        ])
    };
    vec![
        of(
            "unbatched-c1-d1",
            "one record of 100 B per request, 16 partitions, acks=1, 1 connection, one request at a time",
            1,
            1,
            10_000,
        ),
        of(
            "unbatched-c1-d5",
            "the same with 5 requests in flight",
            1,
            5,
            20_000,
        ),
        of(
            "unbatched-c16-d1",
            "16 connections, one request at a time each",
            16,
            1,
            30_000,
        ),
        of(
            "unbatched-c16-d5",
            "16 connections, 5 requests in flight each",
            16,
            5,
            40_000,
        ),
        of(
            "unbatched-c100-d1",
            "100 connections, one request at a time each",
            100,
            1,
            30_000,
        ),
        of(
            "unbatched-c100-d5",
            "100 connections, 5 requests in flight each",
            100,
            5,
            40_000,
        ),
    ]
}

pub(super) fn variants() -> Vec<Scenario> {
    let scenario = |name, about, load: Load| Scenario::shared(name, about, load).at_most_pairs(5);
    let codec = |codec| Load {
        batch_bytes: 64 << 10,
        requests: 4096,
        codec,
        ..BATCHED
    };
    vec![
        scenario(
            "produce-1k-64k",
            "as produce-1k-16k, in batches of 64 KiB",
            Load {
                batch_bytes: 64 << 10,
                requests: 4096,
                ..BATCHED
            },
        ),
        scenario(
            "produce-100b-16k",
            "as produce-1k-16k, with records of 100 B",
            Load {
                record_bytes: 100,
                ..BATCHED
            },
        ),
        scenario(
            "produce-acks0",
            "as produce-1k-16k, with acks=0",
            Load { acks: 0, ..BATCHED },
        ),
        scenario(
            "produce-acks-all",
            "as produce-1k-16k, with acks=all",
            Load {
                acks: -1,
                ..BATCHED
            },
        ),
        scenario(
            "produce-idempotent",
            "as produce-1k-16k, with acks=all from idempotent producers",
            Load {
                acks: -1,
                idempotent: true,
                ..BATCHED
            },
        ),
        scenario(
            "produce-p1",
            "as produce-1k-16k, to one partition",
            Load {
                partitions: 1,
                ..BATCHED
            },
        ),
        scenario(
            "produce-p1000",
            "as produce-1k-16k, to 1,000 partitions",
            Load {
                partitions: 1000,
                ..BATCHED
            },
        )
        .at_most_pairs(3),
        scenario(
            "produce-gzip",
            "as produce-1k-64k, gzip; bytes count as compressed",
            codec(Codec::Gzip),
        ),
        scenario(
            "produce-snappy",
            "the same with snappy",
            codec(Codec::Snappy),
        ),
        scenario("produce-lz4", "the same with lz4", codec(Codec::Lz4)),
        scenario("produce-zstd", "the same with zstd", codec(Codec::Zstd)),
    ]
}

pub(super) fn warm_up() -> Vec<Box<dyn Work>> {
    vec![
        Box::new(BATCHED),
        Box::new(Load {
            connections: 16,
            depth: 5,
            requests: 30_000,
            ..UNBATCHED
        }),
        Box::new(Load {
            batch_bytes: 1 << 20,
            requests: 256,
            ..BATCHED
        }),
        Box::new(Load {
            requests: 5000,
            ..UNBATCHED
        }),
    ]
}
