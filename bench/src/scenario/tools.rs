//! What users measure with: Kafka's own perf tools (Java) and kcat (librdkafka). The clients burn more
//! than the brokers, so throughput says little here; that is why they are only a cross-check.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Run, Scenario, Work};
use crate::figure::{Figure, Figures};
use crate::load::{Watch, end_offsets};
use crate::system::System;

const RECORD_BYTES: u64 = 1024;
const PARTITIONS: i32 = 16;

/// Records that are in the topic by its end offsets.
fn stored(system: &System, topic: &str) -> Result<u64> {
    let ends = end_offsets(system, topic, PARTITIONS as usize)?;
    Ok(ends.iter().sum::<i64>().unsigned_abs())
}

fn told(system: &System, watch: &Watch<'_>, records: u64) -> Result<Figures> {
    let (seconds, broker_cpu, _) = watch.stop()?;
    let gigabytes = (records * RECORD_BYTES) as f64 / 1e9;
    let mut found = Figures::from([(Figure::MbPerSecond, gigabytes * 1e3 / seconds)]);
    if let Some(cpu) = broker_cpu {
        found.insert(Figure::CpuPerGb, cpu / gigabytes);
    }
    if let Some(peak) = system.memory("VmHWM")? {
        found.insert(Figure::PeakRss, peak / 1e6);
    }
    Ok(found)
}

/// `kafka-producer-perf-test`, then `kafka-consumer-perf-test` on what it wrote.
struct Java {
    acks: &'static str,
    is_read: bool,
    records: u64,
}

impl Java {
    fn tool(run: &Run<'_>, main_class: &str, arguments: &[&str]) -> Result<String> {
        let places = &run.launcher.places;
        let done = Command::new(&places.java)
            .args([
                "-Xmx512m",
                "-cp",
                &format!("{}/*", places.kafka_libs.display()),
            ])
            .arg(main_class)
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        let out = String::from_utf8_lossy(&done.stdout).into_owned();
        ensure!(
            done.status.success(),
            "{main_class}: {out}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(out)
    }

    fn produce(&self, run: &Run<'_>, system: &System, topic: &str, records: u64) -> Result<f64> {
        let out = Self::tool(
            run,
            "org.apache.kafka.tools.ProducerPerformance",
            &[
                "--topic",
                topic,
                "--num-records",
                &records.to_string(),
                "--record-size",
                &RECORD_BYTES.to_string(),
                "--throughput",
                "-1",
                "--producer-props",
                &format!("bootstrap.servers={}", system.address),
                &format!("acks={}", self.acks),
            ],
        )?;
        // "… records sent, … records/sec (12.34 MB/sec), …"; its MB are MiB.
        let rate = out
            .lines()
            .last()
            .and_then(|line| line.split_once('(')?.1.split_once(" MB/sec"))
            .with_context(|| format!("no rate in {out}"))?;
        Ok(rate.0.parse::<f64>()? * 1.048_576)
    }

    fn consume(run: &Run<'_>, system: &System, topic: &str, records: u64) -> Result<f64> {
        let out = Self::tool(
            run,
            "org.apache.kafka.tools.ConsumerPerformance",
            &[
                "--bootstrap-server",
                &system.address.to_string(),
                "--topic",
                topic,
                "--messages",
                &records.to_string(),
                "--group",
                &format!("group-{topic}"),
            ],
        )?;
        // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, …
        let cells: Vec<_> = out.lines().last().unwrap_or_default().split(", ").collect();
        let [_, _, _, _, read, _, _, _, rate, ..] = cells[..] else {
            bail!("kafka-consumer-perf-test: {out}");
        };
        ensure!(
            read.parse::<u64>()? >= records,
            "{read} of {records} records were read"
        );
        Ok(rate.parse::<f64>()? * 1.048_576)
    }
}

impl Work for Java {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let topic = format!("perf-{}", run.number);
        system.create_topic(&topic, PARTITIONS)?;
        let records = run.scale.of(self.records);
        let mut watch = Watch::start(system)?;
        let mut rate = self.produce(run, system, &topic, records)?;
        ensure!(
            stored(system, &topic)? == records,
            "not all of {records} records are stored"
        );
        if self.is_read {
            watch = Watch::start(system)?;
            rate = Self::consume(run, system, &topic, records)?;
        }
        let mut found = told(system, &watch, records)?;
        // As the tool tells it: without the start of the JVM.
        found.insert(Figure::MbPerSecond, rate);
        system.delete_topic(&topic)?;
        Ok(found)
    }
}

/// kcat with librdkafka's defaults.
struct Kcat {
    is_read: bool,
    records: u64,
}

impl Kcat {
    /// Lines of 1 KiB: a record each.
    fn input(run: &Run<'_>, records: u64) -> Result<PathBuf> {
        let path = run.launcher.file("kcat-input");
        if !path.exists() {
            let line = [b"x".repeat(RECORD_BYTES as usize), b"\n".to_vec()].concat();
            fs::write(&path, line.repeat(usize::try_from(records)?))?;
        }
        Ok(path)
    }
}

impl Work for Kcat {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let topic = format!("kcat-{}", run.number);
        system.create_topic(&topic, PARTITIONS)?;
        let records = run.scale.of(self.records);
        let broker = system.address.to_string();
        let mut watch = Watch::start(system)?;
        let input = Self::input(run, records)?;
        let status = Command::new("kcat")
            .args(["-b", &broker, "-P", "-t", &topic, "-l"])
            .arg(&input)
            .status()
            .context("kcat")?;
        ensure!(status.success(), "kcat -P: {status}");
        ensure!(
            stored(system, &topic)? == records,
            "not all of {records} records are stored"
        );
        if self.is_read {
            watch = Watch::start(system)?;
            let done = Command::new("kcat")
                .args([
                    "-b",
                    &broker,
                    "-C",
                    "-t",
                    &topic,
                    "-o",
                    "beginning",
                    "-e",
                    "-q",
                ])
                .stdout(Stdio::null())
                .status()?;
            ensure!(done.success(), "kcat -C: {done}");
        }
        let found = told(system, &watch, records)?;
        system.delete_topic(&topic)?;
        Ok(found)
    }
}

pub(super) fn all() -> Vec<Scenario> {
    let java = |name, about, acks, is_read| {
        Scenario::shared(
            name,
            about,
            Java {
                acks,
                is_read,
                records: 400_000,
            },
        )
        .without_floor()
        .at_most_pairs(3)
    };
    let kcat = |name, about, is_read| {
        Scenario::shared(
            name,
            about,
            Kcat {
                is_read,
                records: 400_000,
            },
        )
        .without_floor()
        .at_most_pairs(3)
    };
    vec![
        java(
            "java-produce",
            "kafka-producer-perf-test, acks=1: 400,000 records of 1 KiB to 16 partitions",
            "1",
            false,
        ),
        java(
            "java-produce-all",
            "the same with acks=all, the client's default (idempotent)",
            "all",
            false,
        ),
        java(
            "java-consume",
            "kafka-consumer-perf-test of what kafka-producer-perf-test wrote",
            "1",
            true,
        ),
        kcat(
            "kcat-produce",
            "kcat -P (librdkafka): 400,000 lines of 1 KiB to 16 partitions",
            false,
        ),
        kcat("kcat-consume", "kcat -C of what kcat -P wrote", true),
    ]
}
