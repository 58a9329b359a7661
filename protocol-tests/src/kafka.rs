//! An Apache Kafka 3.9 of its own for a test: ZooKeeper mode, on a free port, its data in a
//! temporary folder, killed by its pid when it is dropped.
//!
//! Needs `java` and Kafka's jars: `KAFKA_LIBS`, else where `compat/install.sh` puts them,
//! `<target>/compat/kafka-libs`.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(120);
const STARTED: &str = "started (kafka.server.KafkaServer)";

pub struct Kafka {
    folder: TempDir,
    address: SocketAddr,
    process: Child,
}

/// The folder of Kafka's jars, if this machine has it.
pub fn libs() -> Option<PathBuf> {
    let folder = match std::env::var_os("KAFKA_LIBS") {
        Some(folder) => PathBuf::from(folder),
        // A test binary is in target/<profile>/deps.
        None => std::env::current_exe()
            .ok()?
            .ancestors()
            .nth(3)?
            .join("compat/kafka-libs"),
    };
    let mut jars = fs::read_dir(&folder).ok()?.flatten();
    jars.any(|jar| jar.file_name().to_string_lossy().starts_with("kafka_2.13-"))
        .then_some(folder)
}

impl Kafka {
    /// Starts a process that is not waited for yet; see [`Kafka::wait`].
    pub fn spawn(libs: &Path, overrides: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log4j = folder.path().join("log4j.properties");
        fs::write(
            &log4j,
            "log4j.rootLogger=INFO, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
             log4j.appender.out.layout=org.apache.log4j.PatternLayout\n\
             log4j.appender.out.layout.ConversionPattern=[%d] %p %m (%c)%n\n",
        )?;
        let mut properties = format!(
            "broker.id=0\nlisteners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\n",
            folder.path().join("data").display()
        );
        for (key, value) in overrides {
            properties.push_str(&format!("{key}={value}\n"));
        }
        let file = folder.path().join("server.properties");
        fs::write(&file, properties)?;
        let log = fs::File::create(folder.path().join("log"))?;
        let process = Command::new("java")
            .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg(format!("-Dlog4j.configuration=file:{}", log4j.display()))
            .args(["-cp", &format!("{}/*", libs.display()), "kafka.Kafka"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("java")?;
        Ok(Self {
            folder,
            address: ([127, 0, 0, 1], port).into(),
            process,
        })
    }

    /// Waits until it serves.
    pub fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while !self.log()?.contains(STARTED) {
            if let Some(status) = self.process.try_wait()? {
                bail!("Kafka ended with {status}:\n{}", self.log()?);
            }
            if Instant::now() > deadline {
                bail!("Kafka did not start:\n{}", self.log()?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it wrote so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("log"))?)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // A process that has ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
