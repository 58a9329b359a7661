//! Ottla beside Apache Kafka 3.9 and beside the floor of this machine, in one run.
//! `cargo run --release -p bench -- --help`; README.md of this folder says how to read the outcome.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use bench::run::{self, Plan};
use bench::system::{Kind, Places};
use bench::{floor, scenario};

#[derive(Parser)]
#[command(about = "Ottla beside Apache Kafka 3.9, in one run")]
struct Arguments {
    #[command(subcommand)]
    hidden: Option<Hidden>,
    /// Runs of each system per scenario, in turn
    #[arg(long)]
    pairs: Option<usize>,
    /// Only scenarios whose name contains one of these words
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A broker that runs already, in Kafka's place
    #[arg(long, value_name = "HOST:PORT")]
    against: Option<SocketAddr>,
    /// The process of that broker, to tell its CPU and memory
    #[arg(long, value_name = "PID", requires = "against")]
    against_pid: Option<u32>,
    /// Another ottla binary, in Kafka's place
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    base: Option<PathBuf>,
    /// A fraction of everything: to see that it works
    #[arg(long)]
    quick: bool,
    /// Without the floor
    #[arg(long)]
    no_floor: bool,
    /// Seconds of load before the first run
    #[arg(long)]
    warm_up: Option<u64>,
    /// Where the brokers keep their data while it runs
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where results go; docs/benchmarks for a full run, else target/bench
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Names and meanings of the scenarios
    #[arg(long)]
    list: bool,
}

#[derive(Subcommand)]
enum Hidden {
    /// The bare prototype that the floor is measured on
    #[command(hide = true)]
    Floor { port: u16, folder: PathBuf },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Hidden::Floor { port, folder }) = arguments.hidden {
        return floor::serve(port, &folder);
    }
    if arguments.list {
        for scenario in scenario::all() {
            println!("{:24} {}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the folder above bench/")?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    raise_file_limit();
    let is_whole = arguments.only.is_empty()
        && !arguments.quick
        && arguments.against.is_none()
        && arguments.base.is_none();
    let first = match (arguments.against, &arguments.base) {
        (Some(_), _) => Kind::Peer,
        (None, Some(_)) => Kind::Base,
        (None, None) => Kind::Kafka,
    };
    let mut kinds = vec![first, Kind::Ottla];
    if !arguments.no_floor {
        kinds.push(Kind::Floor);
    }
    let places = Places {
        java: std::env::var("JAVA").unwrap_or_else(|_| "java".to_owned()),
        kafka_libs: kafka_libs(root, &target, first)?,
        ottla: ottla(root, &target)?,
        base: arguments.base,
        peer: arguments
            .against
            .map(|address| (address, arguments.against_pid)),
    };
    let out = arguments.out.unwrap_or_else(|| {
        if is_whole {
            root.join("docs/benchmarks")
        } else {
            target.join("bench")
        }
    });
    let data = arguments.data.unwrap_or_else(|| target.join("bench"));
    run::run(Plan {
        places,
        kinds,
        pairs: arguments
            .pairs
            .unwrap_or(if arguments.quick { 2 } else { 7 }),
        only: arguments.only,
        size: if arguments.quick { 0.1 } else { 1.0 },
        warm_up: arguments
            .warm_up
            .unwrap_or(if arguments.quick { 5 } else { 60 }),
        data,
        out,
        command: std::env::args().skip(1).collect(),
    })
}

/// Jars of Apache Kafka 3.9; fetched by `compat/install.sh` when there are none.
fn kafka_libs(root: &Path, target: &Path, first: Kind) -> Result<PathBuf> {
    let libs = std::env::var_os("KAFKA_LIBS")
        .map_or_else(|| target.join("compat/kafka-libs"), PathBuf::from);
    if first == Kind::Kafka && !libs.exists() {
        let status = Command::new(root.join("compat/install.sh")).status()?;
        ensure!(
            status.success() && libs.exists(),
            "no jars of Apache Kafka in {}",
            libs.display()
        );
    }
    Ok(libs)
}

/// `OTTLA_BIN`, else a release build of this tree.
fn ottla(root: &Path, target: &Path) -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("OTTLA_BIN") {
        return Ok(binary.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "-p", "ottla"])
        .current_dir(root)
        .status()?;
    ensure!(status.success(), "ottla does not build");
    Ok(target.join("release/ottla"))
}

/// Thousands of connections are held open at once.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it, scenarios with many connections say that they cannot open them.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
