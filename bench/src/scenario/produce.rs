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
struct Load {
    record_bytes: usize,
    /// Before compression; 0 is one record.
    batch_bytes: usize,
    partitions: i32,
    acks: i16,
    codec: Codec,
    idempotent: bool,
    connections: usize,
    depth: usize,
    requests: u64,
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

pub(super) fn warm_up() -> Vec<Box<dyn Work>> {
    vec![Box::new(BATCHED)]
}
