//! What is measured: Apache Kafka, Ottla, another Ottla, any broker that runs already, and the
//! floor. All that are started here have the same settings, one ZooKeeper, and a folder each.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::wire::Connection;

const START: Duration = Duration::from_secs(120);
const TOPIC: Duration = Duration::from_secs(600);
pub const METADATA_VERSION: i16 = 12;
/// Kafka's own start script (`kafka-server-start.sh`, `kafka-run-class.sh`).
const KAFKA_JVM: &str = "-Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
                         -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent \
                         -XX:MaxInlineLevel=15 -Djava.awt.headless=true";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Kafka,
    /// Another build of Ottla (`--base`).
    Base,
    /// One that runs already (`--against`).
    Peer,
    Ottla,
    Floor,
}

impl Kind {
    pub fn label(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka 3.9",
            Self::Base => "Ottla, base",
            Self::Peer => "the other broker",
            Self::Ottla => "Ottla",
            Self::Floor => "floor",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Base => "base",
            Self::Peer => "peer",
            Self::Ottla => "ottla",
            Self::Floor => "floor",
        }
    }

    /// Whether it keeps Kafka's rules; the floor does not.
    pub fn is_broker(self) -> bool {
        self != Self::Floor
    }
}

/// Where the binaries, the jars and the data are.
#[derive(Debug, Clone)]
pub struct Places {
    pub java: String,
    pub kafka_libs: PathBuf,
    pub ottla: PathBuf,
    pub base: Option<PathBuf>,
    pub peer: Option<(SocketAddr, Option<u32>)>,
}

/// Starts what is measured, below one temporary folder and beside one ZooKeeper.
pub struct Launcher {
    pub places: Places,
    folder: TempDir,
    zookeeper_port: u16,
    _zookeeper: Option<Process>,
    launched: std::cell::Cell<u32>,
}

impl Launcher {
    pub fn new(places: Places, data: &Path) -> Result<Self> {
        fs::create_dir_all(data)?;
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(data)?;
        let mut launcher = Self {
            places,
            folder,
            zookeeper_port: free_port()?,
            _zookeeper: None,
            launched: std::cell::Cell::new(0),
        };
        launcher._zookeeper = Some(launcher.zookeeper().context("starting ZooKeeper")?);
        Ok(launcher)
    }

    fn zookeeper(&self) -> Result<Process> {
        let folder = self.folder.path().join("zookeeper");
        fs::create_dir_all(&folder)?;
        let config = folder.join("zoo.cfg");
        fs::write(
            &config,
            format!(
                "tickTime=500\ndataDir={}/data\nclientPort={}\nclientPortAddress=127.0.0.1\n\
                 admin.enableServer=false\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n\
                 minSessionTimeout=1000\nmaxSessionTimeout=60000\n",
                folder.display(),
                self.zookeeper_port
            ),
        )?;
        let class_path = std::env::var("ZOOKEEPER_CLASSPATH").unwrap_or_else(|_| {
            if Path::new("/usr/share/java/zookeeper.jar").exists() {
                "/usr/share/java/*".to_owned()
            } else {
                format!("{}/*", self.places.kafka_libs.display())
            }
        });
        let mut command = Command::new(&self.places.java);
        command
            .args(["-Xmx256m", "-cp", &class_path])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&config);
        let mut process = Process::spawn(&command, &folder.join("log"))?;
        let port = self.zookeeper_port;
        process.wait_until(START, || is_serving_zookeeper(port))?;
        Ok(process)
    }

    /// Starts one that is ready to be measured, with nothing stored.
    pub fn launch(&self, kind: Kind) -> Result<System> {
        let mut system = self.prepare(kind)?;
        system.start(&self.places)?;
        Ok(system)
    }

    /// For what a scenario needs beside; gone when the run ends.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One that [`System::start`] will start.
    pub fn prepare(&self, kind: Kind) -> Result<System> {
        let number = self.launched.get();
        self.launched.set(number + 1);
        let name = format!("{}-{number}", kind.folder());
        if kind == Kind::Peer {
            let (address, pid) = self.places.peer.context("--against names no broker")?;
            return Ok(System {
                kind,
                address,
                folder: PathBuf::new(),
                chroot: name,
                process: None,
                peer: pid,
            });
        }
        let folder = self.folder.path().join(&name);
        fs::create_dir_all(&folder)?;
        let port = free_port()?;
        fs::write(
            folder.join("server.properties"),
            settings(port, &folder, self.zookeeper_port, &name),
        )?;
        Ok(System {
            kind,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            folder,
            chroot: name,
            process: None,
            peer: None,
        })
    }

    /// Waits until ZooKeeper has forgotten a broker that was killed: until then Kafka refuses to start.
    pub fn wait_for_session_end(&self, system: &System) -> Result<()> {
        let node = format!("/{}/brokers/ids/0", system.chroot);
        let deadline = Instant::now() + START;
        loop {
            let sessions = four_letters(self.zookeeper_port, "dump")?;
            let sessions = String::from_utf8_lossy(&sessions);
            if !sessions.split_whitespace().any(|word| word == node) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{node} does not expire");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Kafka's defaults, but for what one broker on loopback must have, what keeps the disk from filling
/// between runs, and what a group would only wait for.
fn settings(port: u16, folder: &Path, zookeeper_port: u16, chroot: &str) -> String {
    format!(
        "broker.id=0\n\
         listeners=PLAINTEXT://127.0.0.1:{port}\n\
         log.dirs={}/data\n\
         zookeeper.connect=127.0.0.1:{zookeeper_port}/{chroot}\n\
         zookeeper.session.timeout.ms=6000\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         auto.create.topics.enable=false\n\
         log.segment.delete.delay.ms=200\n",
        folder.display()
    )
}

/// One broker, or the floor.
pub struct System {
    pub kind: Kind,
    pub address: SocketAddr,
    folder: PathBuf,
    /// Of its znodes.
    chroot: String,
    process: Option<Process>,
    peer: Option<u32>,
}

impl System {
    /// Spawns the process and waits for its first Metadata answer (the floor's port). Answers the time
    /// in between.
    pub fn start(&mut self, places: &Places) -> Result<Duration> {
        if self.kind == Kind::Peer {
            return Ok(Duration::ZERO);
        }
        let command = self.command(places)?;
        let log = self.folder.join("log");
        let started = Instant::now();
        let mut process = Process::spawn(&command, &log)?;
        let (address, is_broker) = (self.address, self.kind.is_broker());
        process
            .wait_until(START, || {
                if is_broker {
                    has_answered(address)
                } else {
                    TcpStream::connect(address).is_ok()
                }
            })
            .with_context(|| format!("starting {}", self.kind.label()))?;
        let took = started.elapsed();
        self.process = Some(process);
        Ok(took)
    }

    fn command(&self, places: &Places) -> Result<Command> {
        let properties = self.folder.join("server.properties");
        let mut command;
        match self.kind {
            Kind::Kafka => {
                let log4j = self.folder.join("log4j.properties");
                fs::write(
                    &log4j,
                    "log4j.rootLogger=INFO, out\n\
                     log4j.appender.out=org.apache.log4j.ConsoleAppender\n\
                     log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
                     log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c)%n\n",
                )?;
                command = Command::new(&places.java);
                command
                    .args(KAFKA_JVM.split_whitespace())
                    .arg(format!("-Dlog4j.configuration=file:{}", log4j.display()))
                    .args(["-cp", &format!("{}/*", places.kafka_libs.display())])
                    .arg("kafka.Kafka")
                    .arg(&properties);
            }
            Kind::Ottla | Kind::Base => {
                let binary = match self.kind {
                    Kind::Base => places.base.as_ref().context("--base names no binary")?,
                    _ => &places.ottla,
                };
                command = Command::new(binary);
                command.arg("server").arg(&properties);
                for (name, _) in std::env::vars_os() {
                    if name.as_encoded_bytes().starts_with(b"KAFKA_") {
                        command.env_remove(name);
                    }
                }
            }
            Kind::Floor => {
                command = Command::new(std::env::current_exe()?);
                command
                    .arg("floor")
                    .arg(self.address.port().to_string())
                    .arg(self.folder.join("data"));
            }
            Kind::Peer => bail!("a broker that runs already is not started"),
        }
        Ok(command)
    }

    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.address)
    }

    /// Seconds the broker has burnt so far; `None` for a broker whose process is not known.
    pub fn cpu_seconds(&self) -> Result<Option<f64>> {
        match (&self.process, self.peer) {
            (Some(process), _) => process.cpu_seconds().map(Some),
            (None, Some(pid)) => process::cpu_seconds_of(pid).map(Some),
            (None, None) => Ok(None),
        }
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id).or(self.peer)
    }

    /// Bytes; the field of `/proc/<pid>/status`.
    pub fn memory(&self, field: &str) -> Result<Option<f64>> {
        self.pid()
            .map(|pid| process::memory_of(pid, field))
            .transpose()
    }

    /// Where its log dir is.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// SIGTERM; its data stays for another start.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::terminate)
    }

    /// SIGKILL; its data stays for another start.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// Creates a topic and waits until every partition has a leader.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        if self.kind == Kind::Floor {
            return Ok(());
        }
        let mut connection = self.connect()?;
        connection.set_patience(TOPIC)?;
        create_topics(&mut connection, &[(name.to_owned(), partitions)])?;
        wait_for_leaders(&mut connection, &[(name.to_owned(), partitions)])
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let mut connection = self.connect()?;
        connection.set_patience(TOPIC)?;
        delete_topics(&mut connection, &[name.to_owned()])?;
        // Its files go shortly after; what they cost is not the next run's.
        let deadline = Instant::now() + TOPIC;
        while self.has_files_of(name)? {
            ensure!(Instant::now() < deadline, "{name} is still in the log dir");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn has_files_of(&self, topic: &str) -> Result<bool> {
        if self.kind == Kind::Peer {
            return Ok(false);
        }
        for entry in fs::read_dir(self.data())? {
            if entry?.file_name().to_string_lossy().starts_with(topic) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.process = None;
        if self.kind != Kind::Peer {
            // The folder of all goes at the end in any case.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// One CreateTopics request for all of them. Thousands of partitions may take longer than Kafka lets a
/// request wait; whether they come, [`wait_for_leaders`] sees.
pub fn create_topics(connection: &mut Connection, topics: &[(String, i32)]) -> Result<()> {
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(120_000)
        .with_topics(
            topics
                .iter()
                .map(|(name, partitions)| {
                    CreatableTopic::default()
                        .with_name(topic_name(name))
                        .with_num_partitions(*partitions)
                        .with_replication_factor(1)
                })
                .collect(),
        );
    let deadline = Instant::now() + TOPIC;
    let response = loop {
        let response = connection.call(&request, 5)?;
        // A broker that has just started answers before its controller has counted it.
        let counts_no_broker = response
            .topics
            .iter()
            .any(|topic| topic.error_code == ResponseError::InvalidReplicationFactor.code());
        if !counts_no_broker || Instant::now() >= deadline {
            break response;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    for topic in &response.topics {
        ensure!(
            topic.error_code == 0 || topic.error_code == ResponseError::RequestTimedOut.code(),
            "creating {}: {:?} {:?}",
            topic.name.0,
            ResponseError::try_from_code(topic.error_code),
            topic.error_message
        );
    }
    Ok(())
}

pub fn delete_topics(connection: &mut Connection, topics: &[String]) -> Result<()> {
    let request = DeleteTopicsRequest::default()
        .with_timeout_ms(120_000)
        .with_topic_names(topics.iter().map(|name| topic_name(name)).collect());
    let response = connection.call(&request, 5)?;
    for topic in &response.responses {
        ensure!(
            topic.error_code == 0,
            "deleting {:?}: {:?}",
            topic.name,
            ResponseError::try_from_code(topic.error_code)
        );
    }
    Ok(())
}

pub fn metadata_request(topics: Option<&[(String, i32)]>) -> MetadataRequest {
    MetadataRequest::default().with_topics(topics.map(|topics| {
        topics
            .iter()
            .map(|(name, _)| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
            .collect()
    }))
}

fn leaders(response: &MetadataResponse, topic: &str) -> usize {
    response
        .topics
        .iter()
        .filter(|found| found.name.as_ref().is_some_and(|name| &*name.0 == topic))
        .flat_map(|found| &found.partitions)
        .filter(|partition| partition.error_code == 0 && partition.leader_id.0 >= 0)
        .count()
}

pub fn wait_for_leaders(connection: &mut Connection, topics: &[(String, i32)]) -> Result<()> {
    let request = metadata_request(Some(topics));
    let deadline = Instant::now() + TOPIC;
    loop {
        let response = connection.call(&request, METADATA_VERSION)?;
        if topics
            .iter()
            .all(|(name, partitions)| leaders(&response, name) == *partitions as usize)
        {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no leaders within {TOPIC:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a Metadata request for no topic is answered.
fn has_answered(address: SocketAddr) -> bool {
    Connection::open(address)
        .and_then(|mut connection| connection.call(&metadata_request(Some(&[])), METADATA_VERSION))
        .is_ok()
}

fn is_serving_zookeeper(port: u16) -> bool {
    four_letters(port, "ruok").is_ok_and(|answer| answer == b"imok")
}

/// The answer to one of ZooKeeper's four-letter commands.
fn four_letters(port: u16, word: &str) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Below the range that outgoing connections are given: the generator opens thousands of them.
fn free_port() -> Result<u16> {
    let first = 12_000 + u16::try_from(std::process::id() % 17_000)?;
    (first..30_000)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .with_context(|| format!("no free port from {first} to 30000"))
}
