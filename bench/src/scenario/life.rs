//! What a broker costs apart from its load: start, rest, topics that come and go, a crash.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::fetch::store;
use super::{ApartWork, Bar, Run, Scenario, Work, target};
use crate::figure::{Figure, Figures};
use crate::load::verify;
use crate::system::{Kind, System, create_topics, delete_topics, wait_for_leaders};

/// A broker is at rest when it burns less than this of a window.
const REST_WINDOW: Duration = Duration::from_millis(500);
const REST_CPU: f64 = 0.01;
const REST_PATIENCE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(2);

/// From nothing to the first answer; then what it holds and burns at rest.
struct Start;

impl ApartWork for Start {
    fn run(&mut self, run: &Run<'_>, kind: Kind) -> Result<Figures> {
        let mut system = run.launcher.prepare(kind)?;
        let mut found = Figures::new();
        settle();
        let took = system.start(&run.launcher.places)?;
        found.insert(Figure::FirstAnswer, took.as_secs_f64() * 1e3);
        wait_for_rest(&system)?;
        let Some(before) = system.cpu_seconds()? else {
            return Ok(found);
        };
        thread::sleep(IDLE);
        if let Some(after) = system.cpu_seconds()? {
            let per_minute = (after - before) * 60.0 / IDLE.as_secs_f64();
            found.insert(Figure::IdleCpu, per_minute * 1e3);
        }
        if let Some(rss) = system.memory("VmRSS")? {
            found.insert(Figure::Rss, rss / 1e6);
        }
        found.insert(Figure::DiskSize, disk_size(run, kind)? as f64 / 1e6);
        let stopping = Instant::now();
        system.stop()?;
        found.insert(Figure::Stop, stopping.elapsed().as_secs_f64() * 1e3);
        Ok(found)
    }
}

/// What was written before is on the disk: a start shall not wait for it.
pub(super) fn settle() {
    rustix::fs::sync();
}

fn wait_for_rest(system: &System) -> Result<()> {
    let deadline = Instant::now() + REST_PATIENCE;
    loop {
        let before = system.cpu_seconds()?;
        thread::sleep(REST_WINDOW);
        let burnt = system
            .cpu_seconds()?
            .zip(before)
            .map(|(now, before)| now - before);
        if burnt.is_none_or(|burnt| burnt < REST_CPU * REST_WINDOW.as_secs_f64())
            || Instant::now() > deadline
        {
            return Ok(());
        }
    }
}

/// The binary, or the jars; without the Java runtime.
fn disk_size(run: &Run<'_>, kind: Kind) -> Result<u64> {
    let places = &run.launcher.places;
    match (kind, &places.base) {
        (Kind::Ottla, _) => Ok(fs::metadata(&places.ottla)?.len()),
        (Kind::Base, Some(base)) => Ok(fs::metadata(base)?.len()),
        _ => {
            let mut bytes = 0;
            for jar in fs::read_dir(&places.kafka_libs)? {
                bytes += jar?.metadata()?.len();
            }
            Ok(bytes)
        }
    }
}

pub(super) fn start() -> Vec<Scenario> {
    vec![
        Scenario::apart(
            "start",
            "a broker with nothing stored: start, rest, stop; jars without the Java runtime",
            Start,
        )
        .targets(&[
            target("P5", Figure::FirstAnswer, Bar::AtMost(30.0)),
            target("P5", Figure::FirstAnswer, Bar::OfKafka(1.0 / 50.0)),
            target("P5", Figure::Rss, Bar::AtMost(15.0)),
            target("P5", Figure::Rss, Bar::OfKafka(1.0 / 20.0)),
        ]),
    ]
}

/// Topics of one partition, a request each, until all have a leader; then deleted the same way.
struct Topics;

impl Work for Topics {
    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures> {
        let count = run.scale.of(200);
        let topics: Vec<_> = (0..count)
            .map(|topic| (format!("churn-{}-{topic}", run.number), 1))
            .collect();
        let mut connection = system.connect()?;
        let started = Instant::now();
        for topic in &topics {
            create_topics(&mut connection, std::slice::from_ref(topic))?;
        }
        wait_for_leaders(&mut connection, &topics)?;
        let created = started.elapsed().as_secs_f64();
        let started = Instant::now();
        for (topic, _) in &topics {
            delete_topics(&mut connection, std::slice::from_ref(topic))?;
        }
        let deleted = started.elapsed().as_secs_f64();
        Ok(Figures::from([
            (Figure::Creations, count as f64 / created),
            (Figure::Deletions, count as f64 / deleted),
        ]))
    }
}

pub(super) fn topics() -> Vec<Scenario> {
    vec![
        Scenario::shared(
            "topics",
            "200 topics of one partition created, then deleted, one request each",
            Topics,
        )
        .without_floor()
        .at_most_pairs(5),
    ]
}

/// kill -9 with records that no fsync has seen.
struct Recovery;

impl ApartWork for Recovery {
    fn run(&mut self, run: &Run<'_>, kind: Kind) -> Result<Figures> {
        settle();
        let mut system = run.launcher.launch(kind)?;
        let stored = store(run, &system, 16, 1 << 20, run.scale.of(2048))?;
        system.kill()?;
        run.launcher.wait_for_session_end(&system)?;
        let started = Instant::now();
        let first_answer = system.start(&run.launcher.places)?.as_secs_f64();
        // Kafka answers before it knows of its topics.
        let topics = [(stored.topic.clone(), i32::try_from(stored.ends.len())?)];
        wait_for_leaders(&mut system.connect()?, &topics)?;
        let took = started.elapsed().as_secs_f64();
        let from = vec![0; stored.ends.len()];
        let ends = verify(&system, &stored.topic, &from, &stored.totals)?;
        ensure!(ends == stored.ends, "the end offsets changed");
        let (bytes, seconds) = read_all(&system.data())?;
        Ok(Figures::from([
            (Figure::FirstAnswer, first_answer * 1e3),
            (Figure::AllLeaders, took * 1e3),
            (Figure::Recovery, stored.totals.bytes as f64 / 1e6 / took),
            (
                Figure::RecoveryShare,
                (stored.totals.bytes as f64 / took) / (bytes as f64 / seconds),
            ),
        ]))
    }
}

/// How long it takes to read the segments of a log dir.
fn read_all(data: &Path) -> Result<(u64, f64)> {
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    let started = Instant::now();
    for folder in fs::read_dir(data)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let mut file = File::open(path)?;
            loop {
                let read = file.read(&mut buffer)?;
                if read == 0 {
                    break;
                }
                bytes += read as u64;
            }
        }
    }
    Ok((bytes, started.elapsed().as_secs_f64()))
}

pub(super) fn recovery() -> Vec<Scenario> {
    vec![
        Scenario::apart(
            "recovery",
            "start after kill -9 with 2 GB in 16 partitions that no fsync has seen, files in the page cache",
            Recovery,
        )
        .targets(&[target("P5", Figure::RecoveryShare, Bar::AtLeast(0.7))])
        .at_most_pairs(3),
    ]
}
