//! Apache Kafka 3.9 and Ottla, side by side on one ZooKeeper: the same requests to both, the
//! answers compared field by field. `cargo test -p protocol-tests --test differential -- fetch` runs
//! the cases that have `fetch` in their name. Accepted differences: `differential/accepted.rs`.
//!
//! Without Java, ZooKeeper's or Kafka's jars it says NOT RUN and why.

mod brokers;
mod cluster;
mod configs;
mod consume;
mod golden;
mod groups;
mod make;
mod offsets;
mod produce;
mod producers;
mod topics;

use std::process::ExitCode;

use anyhow::Result;
use protocol_tests::differential::{Both, Run, Test};
use protocol_tests::kafka::{self, Kafka};
use protocol_tests::ottla::Ottla;
use protocol_tests::zookeeper::ZooKeeper;

/// What both run with, beside ids, ports and folders.
const SETTINGS: &[(&str, &str)] = &[
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "3"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "3"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "100"),
    ("zookeeper.session.timeout.ms", "18000"),
    // The records of the cases are years old.
    ("log.retention.ms", "-1"),
];

fn cases() -> Vec<Test> {
    [
        offsets::LOG_DIRS,
        cluster::CASES,
        topics::CASES,
        produce::CASES,
        producers::CASES,
        consume::CASES,
        offsets::CASES,
        groups::CASES,
        configs::CASES,
        brokers::CASES,
        golden::CASES,
    ]
    .concat()
}

fn main() -> ExitCode {
    // What cargo passes to every test binary is not ours.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let filters: Vec<String> = arguments
        .into_iter()
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let cases = cases();
    if !filters.is_empty()
        && !cases
            .iter()
            .any(|(name, _)| filters.iter().any(|f| name.contains(f)))
    {
        println!("differential: no case is called so");
        return ExitCode::SUCCESS;
    }
    match run(&cases, &filters) {
        Ok(Some(Ok(counts))) => {
            println!("differential: Ottla answers as Kafka 3.9 does; {counts}");
            ExitCode::SUCCESS
        }
        Ok(Some(Err(differences))) => {
            println!("{differences}\ndifferential: FAILED");
            ExitCode::FAILURE
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            println!("differential: FAILED to run: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn run(cases: &[Test], filters: &[String]) -> Result<Option<Result<String, String>>> {
    let Some(libs) = kafka::libs() else {
        println!(
            "NOT RUN differential: needs Apache Kafka's jars (compat/install.sh, or KAFKA_LIBS)"
        );
        return Ok(None);
    };
    let Some(zookeeper) = ZooKeeper::start()? else {
        return Ok(None);
    };
    let connect = |chroot: &str| format!("{}/{chroot}", zookeeper.connect_string());
    let of_kafka = connect("kafka");
    let settings: Vec<_> = SETTINGS
        .iter()
        .copied()
        .chain([("zookeeper.connect", of_kafka.as_str())])
        .collect();
    let mut kafka = Kafka::spawn(&libs, &settings)?;
    let of_ottla = connect("ottla");
    let overrides: Vec<_> = SETTINGS
        .iter()
        .chain(&[("zookeeper.connect", of_ottla.as_str())])
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let overrides: Vec<_> = overrides.iter().map(String::as_str).collect();
    let ottla = Ottla::start(&overrides)?;
    kafka.wait()?;
    let own = Both {
        kafka: vec![
            (kafka.folder().display().to_string(), "<folder>"),
            (of_kafka.clone(), "<zookeeper>"),
        ],
        ottla: vec![
            (ottla.folder().display().to_string(), "<folder>"),
            (of_ottla.clone(), "<zookeeper>"),
        ],
    };
    let addresses = Both {
        kafka: kafka.address(),
        ottla: ottla.address(),
    };
    let mut outcome = Run::new(addresses, own)?.run(cases, filters);
    let log = ottla.log()?;
    if let (Some(at), Ok(counts)) = (log.find("panicked"), &outcome) {
        let line = log[at..].lines().next().unwrap_or_default();
        outcome = Err(format!("{counts}, but Ottla {line}"));
    }
    if let (Err(_), Some(path)) = (&outcome, std::env::var_os("DIFFERENTIAL_LOGS")) {
        std::fs::create_dir_all(&path)?;
        std::fs::write(std::path::Path::new(&path).join("ottla.log"), &log)?;
        std::fs::write(std::path::Path::new(&path).join("kafka.log"), kafka.log()?)?;
    }
    Ok(Some(outcome))
}
