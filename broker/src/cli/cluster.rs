//! `kafka-cluster`: the cluster's id; taking a broker off its register (`ClusterTool`).

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use super::admin::{Admin, ClientConfig};
use super::options::parse_subcommands;

/// The Kafka cluster tool.
#[derive(Parser)]
#[command(name = "kafka-cluster", disable_version_flag = true)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Get information about the ID of a cluster
    ClusterId(Connection),
    /// Unregister a broker, which only clusters without ZooKeeper can do
    Unregister {
        #[command(flatten)]
        connection: Connection,
        /// Id of the broker
        #[arg(short, long)]
        id: i32,
    },
}

#[derive(Args)]
struct Connection {
    /// HOST:PORT of a broker, or several with commas
    #[arg(
        short,
        long,
        value_name = "HOST:PORT",
        required_unless_present = "bootstrap_controller"
    )]
    bootstrap_server: Option<String>,
    /// HOST:PORT of a controller of a cluster without ZooKeeper
    #[arg(
        short = 'C',
        long,
        value_name = "HOST:PORT",
        conflicts_with = "bootstrap_server"
    )]
    bootstrap_controller: Option<String>,
    /// Properties of the connection: client.id, default.api.timeout.ms
    #[arg(short, long, value_name = "FILE")]
    config: Option<String>,
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse_subcommands(arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    match act(&options.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}

fn act(command: &Command) -> Result<()> {
    let (Command::ClusterId(connection) | Command::Unregister { connection, .. }) = command;
    let Some(bootstrap) = &connection.bootstrap_server else {
        bail!("--bootstrap-controller: a ZooKeeper cluster has none; use --bootstrap-server");
    };
    let config = ClientConfig::new("adminclient-1").with_file(connection.config.as_deref())?;
    let mut admin = Admin::connect(bootstrap, config)?;
    match command {
        Command::ClusterId(_) => match admin.metadata(Some(&[]))?.cluster_id {
            Some(id) => println!("Cluster ID: {id}"),
            None => println!("No cluster ID found. The Kafka version is probably too old."),
        },
        // Kafka's tool says so too after it asked: brokers of a ZooKeeper cluster do not offer it.
        Command::Unregister { .. } => {
            println!("The target cluster does not support the broker unregistration API.");
        }
    }
    Ok(())
}
