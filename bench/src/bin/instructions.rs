//! User instructions per call of what every request goes through, counted by callgrind: a number that
//! does not depend on what else the machine does, so that a check can hold the code to it.
//!
//! `instructions` counts and compares with `bench/instructions.txt`; more than [`TOLERANCE`] above it
//! fails. `instructions --bless` writes the file. `instructions probe NAME COUNT` is what runs under
//! callgrind: the same work COUNT and three times COUNT times, so that starting up cancels out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bench::process::Process;
use bench::records::{Batch, Codec};
use bench::scenario::groups::{check_commit, commit, find_coordinator};
use bench::system::{create_topics, metadata_request, wait_for_leaders};
use bench::wire::{self, Connection, FetchLimits, PRODUCE_TAIL};
use bytes::Bytes;
use kafka_protocol::messages::{HeartbeatRequest, MetadataRequest};
use kafka_protocol::protocol::{Request, StrBytes};
use ottla::clock::ManualClock;
use ottla::config::Config;
use ottla::config::topic::LogConfig;
use ottla::error::ErrorCode;
use ottla::group::event::{
    Answer, Effect, Event, JoinRequest, MemberRef, Now, Protocol, Settings, SyncRequest,
};
use ottla::group::group::Group;
use ottla::log::manager::{LogManager, ManagerConfig};
use ottla::log::{Log, ReadRequest};
use ottla::net::guard::{self, Direction};
use ottla::record::validate::{Origin, Prepared, prepare};
use ottla::types::{TopicPartition, Uuid};

/// Of the count in the file. Another compiler moves some by a few per cent.
const TOLERANCE: f64 = 1.10;
const NOW: i64 = 1_700_000_000_000;
const PARTITIONS: i32 = 500;

type Work = Box<dyn FnMut() -> Result<()>>;

struct Probe {
    name: &'static str,
    about: &'static str,
    /// Of the shorter of the two runs.
    count: u64,
    make: fn(&Path) -> Result<Work>,
}

const PROBES: &[Probe] = &[
    Probe {
        name: "decode-metadata",
        about: "guard and decode of Metadata v12, one topic",
        count: 1000,
        make: |_| {
            let request = metadata_request(Some(&[("metadata".to_owned(), 1)]));
            decode::<MetadataRequest>(wire::frame(&request, 12)?, 12)
        },
    },
    Probe {
        name: "decode-heartbeat",
        about: "guard and decode of Heartbeat v4",
        count: 1000,
        make: |_| {
            let request = HeartbeatRequest::default()
                .with_group_id(StrBytes::from_static_str("group").into())
                .with_member_id(StrBytes::from_static_str(
                    "client-00000000-0000-0000-0000-000000000000",
                ));
            decode::<HeartbeatRequest>(wire::frame(&request, 4)?, 4)
        },
    },
    Probe {
        name: "validate-100b",
        about: "validation of a batch of one record of 100 B",
        count: 1000,
        make: |_| validate(0, 100),
    },
    Probe {
        name: "validate-16k",
        about: "validation of a batch of 16 KiB, records of 1 KiB",
        count: 500,
        make: |_| validate(16 << 10, 1024),
    },
    Probe {
        name: "validate-16k-100b",
        about: "validation of a batch of 16 KiB, records of 100 B",
        count: 200,
        make: |_| validate(16 << 10, 100),
    },
    Probe {
        name: "append",
        about: "append of a batch of one record to a log",
        count: 1000,
        make: append,
    },
    Probe {
        name: "lookup",
        about: "from an offset in a segment of 4,000 batches to its file region",
        count: 1000,
        make: lookup,
    },
    Probe {
        name: "heartbeat",
        about: "heartbeat in a group of 500 members",
        count: 1000,
        make: |_| heartbeat(),
    },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["probe", name, count] => probe(name, count.parse()?),
        [] => check(false),
        ["--bless"] => check(true),
        _ => bail!("usage: instructions [--bless]"),
    }
}

/// What runs under callgrind.
fn probe(name: &str, count: u64) -> Result<()> {
    let probe = PROBES
        .iter()
        .find(|probe| probe.name == name)
        .with_context(|| format!("no probe {name}"))?;
    let folder = tempfile::tempdir()?;
    let mut work = (probe.make)(folder.path())?;
    for _ in 0..count {
        work()?;
    }
    Ok(())
}

fn check(is_blessing: bool) -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt");
    let counted = count_all()?;
    if is_blessing {
        let mut text = String::from(
            "# User instructions per call, counted by callgrind: `instructions --bless` writes this file.\n",
        );
        for probe in PROBES {
            let _ = writeln!(text, "# {}: {}", probe.name, probe.about);
        }
        text.push_str(
            "# served-commit: OffsetCommit v8 of one partition by the whole broker, user space only\n\
             # served-produce: Produce v11 of one record by the whole broker, user space only\n\
             # served-fetch: Fetch v12 of one record by the whole broker, user space only\n\
             # served-fetch-500: Fetch v12 of 500 partitions without records, likewise\n",
        );
        for (name, count) in &counted {
            let _ = writeln!(text, "{name} {count:.0}");
        }
        fs::write(&file, text)?;
        println!("written to {}", file.display());
        return Ok(());
    }
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let allowed = parse(&text)?;
    let mut failed = Vec::new();
    for (name, count) in &counted {
        let Some(before) = allowed.get(*name) else {
            failed.push(format!("{name}: not in {}", file.display()));
            continue;
        };
        let ratio = count / before;
        println!("{name:20} {count:10.0}  {ratio:.3} of {before:.0}");
        if ratio > TOLERANCE {
            failed.push(format!(
                "{name}: {count:.0} instructions, {before:.0} before. Make it cheaper, or, if it is worth \
                 the price, `instructions --bless` and say why"
            ));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn parse(text: &str) -> Result<BTreeMap<String, f64>> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (name, count) = line.split_once(' ').with_context(|| line.to_owned())?;
            Ok((name.to_owned(), count.parse()?))
        })
        .collect()
}

/// The whole broker under callgrind: what one request costs from its first byte to the last of its
/// answer, kernel apart.
const SERVED: u64 = 2000;
const START: Duration = Duration::from_secs(120);
const GROUP: &str = "group";

/// What is asked of a broker that is counted.
#[derive(Clone, Copy, Default)]
struct Asked {
    produces: u64,
    /// Of one record.
    fetches: u64,
    /// Of [`PARTITIONS`] partitions without records.
    wide_fetches: u64,
    /// Of one partition.
    commits: u64,
}

fn count_served(binary: &Path) -> Result<Vec<(&'static str, f64)>> {
    const WIDE: u64 = 100;
    let asked = |produces, fetches, wide_fetches, commits| Asked {
        produces,
        fetches,
        wide_fetches,
        commits,
    };
    let counts = thread::scope(|scope| {
        let runs = [
            asked(SERVED, 0, 0, 0),
            asked(3 * SERVED, 0, 0, 0),
            asked(SERVED, 2 * SERVED, 0, 0),
            asked(0, 0, WIDE, 0),
            asked(0, 0, 3 * WIDE, 0),
            asked(0, 0, 0, SERVED),
            asked(0, 0, 0, 3 * SERVED),
        ];
        let runs = runs.map(|asked| scope.spawn(move || served(binary, asked)));
        let counts = runs.map(|run| match run.join() {
            Ok(count) => count,
            Err(_) => bail!("a panic"),
        });
        counts.into_iter().collect::<Result<Vec<u64>>>()
    })?;
    let each = |less: usize, more: usize, count: u64| {
        (counts[more] as f64 - counts[less] as f64) / count as f64
    };
    Ok(vec![
        ("served-commit", each(5, 6, 2 * SERVED)),
        ("served-fetch", each(0, 2, 2 * SERVED)),
        ("served-fetch-500", each(3, 4, 2 * WIDE)),
        ("served-produce", each(0, 1, 2 * SERVED)),
    ])
}

/// Instructions of a broker from start to stop.
fn served(binary: &Path, asked: Asked) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(binary)
        .args(["server", "--override", "broker.id=0"]);
    for pair in [
        format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
        format!("log.dirs={}", folder.path().join("data").display()),
        "offsets.topic.num.partitions=1".to_owned(),
    ] {
        command.args(["--override", &pair]);
    }
    let mut broker = Process::spawn(&command, &folder.path().join("log"))?;
    let address = ([127, 0, 0, 1], port).into();
    broker.wait_until(START, || TcpStream::connect(address).is_ok())?;
    let mut connection = Connection::open(address)?;
    let mut topics = vec![("topic".to_owned(), 1)];
    if asked.wide_fetches > 0 {
        topics.push(("wide".to_owned(), PARTITIONS));
    }
    create_topics(&mut connection, &topics)?;
    wait_for_leaders(&mut connection, &topics)?;
    let request = produce()?;
    for _ in 0..asked.produces {
        connection.send(&request)?;
        wire::check_produce(connection.receive()?)?;
    }
    for turn in 0..asked.fetches {
        let limits = FetchLimits {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            partition_max_bytes: 1,
        };
        let offset = i64::try_from(turn % asked.produces)?;
        connection.send(&wire::fetch("topic", &[(0, offset)], limits)?)?;
        let mut bytes = 0;
        wire::read_fetched(connection.receive()?, |_, records| {
            bytes += records.len();
            Ok(())
        })?;
        ensure!(bytes > 0, "nothing at offset {offset}");
    }
    let wide = wide_fetch()?;
    for _ in 0..asked.wide_fetches {
        connection.send(&wide)?;
        wire::read_fetched(connection.receive()?, |_, _| Ok(()))?;
    }
    if asked.commits > 0 {
        find_coordinator(&mut connection, GROUP)?;
    }
    for number in 0..asked.commits {
        connection.send(&commit(GROUP, "topic", 0, i64::try_from(number)?)?)?;
        check_commit(connection.receive()?)?;
    }
    drop(connection);
    let log = broker.log_path().to_owned();
    broker.terminate()?;
    collected(&fs::read_to_string(log)?)
}

fn collected(told: &str) -> Result<u64> {
    told.lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
        .with_context(|| format!("no count in {told}"))
}

/// Two at a time: each is one thread.
fn count_all() -> Result<Vec<(&'static str, f64)>> {
    let executable = std::env::current_exe()?;
    let halves: Vec<Vec<&Probe>> = (0..2)
        .map(|half| PROBES.iter().skip(half).step_by(2).collect())
        .collect();
    let mut counted = BTreeMap::new();
    thread::scope(|scope| {
        let threads: Vec<_> = halves
            .iter()
            .map(|half| {
                let executable = &executable;
                scope.spawn(move || -> Result<Vec<(&'static str, f64)>> {
                    half.iter()
                        .map(|probe| Ok((probe.name, per_call(executable, probe)?)))
                        .collect()
                })
            })
            .collect();
        for thread in threads {
            let half = thread.join().map_err(|_| anyhow::anyhow!("a panic"))??;
            counted.extend(half);
        }
        Ok::<_, anyhow::Error>(())
    })?;
    counted.extend(count_served(&ottla(&executable)?)?);
    Ok(counted.into_iter().collect())
}

/// `OTTLA_BIN`, else the binary that was built beside this one (`cargo build --release`).
fn ottla(executable: &Path) -> Result<PathBuf> {
    let binary = std::env::var_os("OTTLA_BIN")
        .map_or_else(|| executable.with_file_name("ottla"), PathBuf::from);
    ensure!(
        binary.exists(),
        "{} does not exist; `cargo build --release` first",
        binary.display()
    );
    Ok(binary)
}

fn per_call(executable: &PathBuf, probe: &Probe) -> Result<f64> {
    let short = instructions(executable, probe.name, probe.count)?;
    let long = instructions(executable, probe.name, 3 * probe.count)?;
    Ok((long - short) as f64 / (2 * probe.count) as f64)
}

/// Of one run under callgrind.
fn instructions(executable: &PathBuf, name: &str, count: u64) -> Result<u64> {
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(executable)
        .args(["probe", name, &count.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("valgrind (package valgrind)")?;
    let told = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{name}: {told}");
    collected(&told)
}

fn batch(batch_bytes: usize, record_bytes: usize) -> Result<Batch> {
    Batch::filled(batch_bytes, record_bytes, Codec::None, 1)
}

fn produce() -> Result<Vec<u8>> {
    let batch = batch(0, 100)?;
    let mut request = wire::produce_head("topic", 0, 1, batch.bytes.len())?;
    request.extend_from_slice(&batch.bytes);
    request.extend_from_slice(&PRODUCE_TAIL);
    Ok(request)
}

fn wide_fetch() -> Result<Vec<u8>> {
    let partitions: Vec<_> = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
    let limits = FetchLimits {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        partition_max_bytes: 1 << 20,
    };
    wire::fetch("wide", &partitions, limits)
}

fn decode<R: Request>(frame: Vec<u8>, version: i16) -> Result<Work> {
    let frame = Bytes::from(frame).slice(4..);
    let header_version = R::header_version(version);
    Ok(Box::new(move || {
        let header = guard::request_header(&frame, header_version)?;
        let body = frame.slice(header.len..);
        guard::check(Direction::Request, R::KEY, version, &body)?;
        black_box(R::decode(&mut body.clone(), version)?);
        Ok(())
    }))
}

fn log_config() -> Result<LogConfig> {
    Ok(Config::from_pairs(&[])?.log_config(&Default::default()))
}

fn prepared(batch: &Batch) -> Result<Prepared<'static>> {
    let partition = TopicPartition::new("topic", 0);
    let origin = Origin::Client;
    let records = batch.bytes.clone().leak();
    prepare(&partition, records, origin, &log_config()?, NOW)?.context("an empty set")
}

fn validate(batch_bytes: usize, record_bytes: usize) -> Result<Work> {
    let records = batch(batch_bytes, record_bytes)?.bytes;
    let partition = TopicPartition::new("topic", 0);
    let config = log_config()?;
    let origin = Origin::Client;
    Ok(Box::new(move || {
        black_box(prepare(&partition, &records, origin, &config, NOW)?);
        Ok(())
    }))
}

fn open_log(folder: &Path) -> Result<(Arc<LogManager>, Arc<Log>)> {
    let config = log_config()?;
    let manager = LogManager::open(
        ManagerConfig {
            log_dirs: vec![folder.to_owned()],
            num_recovery_threads_per_data_dir: 1,
            default_log_config: config.clone(),
            retention_check_interval_ms: 300_000,
            flush_scheduler_interval_ms: i64::MAX,
            flush_offset_checkpoint_interval_ms: 60_000,
            flush_start_offset_checkpoint_interval_ms: 60_000,
            producer_id_expiration_ms: 86_400_000,
            producer_id_expiration_check_interval_ms: 600_000,
        },
        Arc::new(ManualClock::at(NOW)),
        &|_| config.clone(),
    )?;
    let partition = TopicPartition::new("topic", 0);
    let log = manager.get_or_create(&partition, None, true, config.clone())?;
    Ok((manager, log))
}

fn append(folder: &Path) -> Result<Work> {
    let (manager, log) = open_log(folder)?;
    let prepared = prepared(&batch(0, 100)?)?;
    Ok(Box::new(move || {
        let _open = &manager;
        black_box(log.append_as_leader(&prepared, 0)?);
        Ok(())
    }))
}

fn lookup(folder: &Path) -> Result<Work> {
    const BATCHES: i64 = 4000;
    let (manager, log) = open_log(folder)?;
    let prepared = prepared(&batch(0, 1000)?)?;
    for _ in 0..BATCHES {
        log.append_as_leader(&prepared, 0)?;
    }
    log.advance_high_watermark(BATCHES);
    let mut offset = 0;
    Ok(Box::new(move || {
        let _open = &manager;
        // Wanders over all of the segment.
        offset = (offset + 1237) % BATCHES;
        let read = log.read(ReadRequest {
            offset,
            max_bytes: 1 << 20,
            upper_bound: BATCHES,
            min_one_message: true,
            with_aborted: false,
        })?;
        ensure!(read.region.is_some(), "nothing at offset {offset}");
        Ok(())
    }))
}

/// A settled group; every call is a heartbeat of another member.
fn heartbeat() -> Result<Work> {
    const MEMBERS: usize = 500;
    let mut now = Now {
        wall: NOW,
        steady: 0,
    };
    let settings = Settings {
        initial_rebalance_delay_ms: 3000,
        ..Settings::default()
    };
    let mut group = Group::new("group", Arc::new(settings), now);
    for (member, token) in (0..MEMBERS).zip(1..) {
        let join = JoinRequest {
            token,
            member_id: String::new(),
            instance_id: None,
            unique: Uuid::from_u128(member as u128 + 1),
            require_known_member_id: false,
            supports_skipping_assignment: true,
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 45_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: Bytes::from_static(&[0; 32]),
            }],
            reason: None,
        };
        let mut out = Vec::new();
        group.step(now, Event::Join(join), &mut out);
        ensure!(out.is_empty(), "the group did not wait for others");
    }
    let members = settle(&mut group, &mut now)?;
    ensure!(members.len() == MEMBERS, "{} members", members.len());
    let mut turn = 0;
    Ok(Box::new(move || {
        turn += 1;
        let member = members[turn % members.len()].clone();
        let mut out = Vec::new();
        group.step(now, Event::Heartbeat { token: 0, member }, &mut out);
        let is_fine = matches!(
            out[..],
            [Effect::Answer {
                answer: Answer::Heartbeat(ErrorCode::None),
                ..
            }]
        );
        ensure!(is_fine, "not the answer to a heartbeat: {out:?}");
        Ok(())
    }))
}

/// Lets the initial delay pass, gives everybody an assignment, and writes what the group wants written.
fn settle(group: &mut Group, now: &mut Now) -> Result<Vec<MemberRef>> {
    let mut members = Vec::new();
    let mut pending = Vec::new();
    while members.is_empty() {
        let deadline = group.next_deadline().context("nothing is due")?;
        now.steady = now.steady.max(deadline);
        group.step(*now, Event::Timeout, &mut pending);
        for effect in std::mem::take(&mut pending) {
            match effect {
                Effect::Answer {
                    answer: Answer::Join(joined),
                    ..
                } => members.push(MemberRef {
                    member_id: joined.member_id,
                    instance_id: None,
                    generation: joined.generation,
                }),
                Effect::Append { write, .. } => {
                    let result = Ok(0);
                    group.step(*now, Event::Appended { write, result }, &mut pending);
                }
                Effect::Answer { .. } | Effect::Forget => {}
            }
        }
    }
    // Only the leader's counts; who that is does not matter when all bring the same.
    let assignments: Vec<_> = members
        .iter()
        .map(|member| (member.member_id.clone(), Bytes::from_static(&[0; 64])))
        .collect();
    for (member, token) in members.iter().zip(1..) {
        let sync = SyncRequest {
            token,
            member: member.clone(),
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignments: assignments.clone(),
        };
        let mut out = Vec::new();
        group.step(*now, Event::Sync(sync), &mut out);
        while let Some(effect) = out.pop() {
            if let Effect::Append { write, .. } = effect {
                let result = Ok(0);
                group.step(*now, Event::Appended { write, result }, &mut out);
            }
        }
    }
    Ok(members)
}
