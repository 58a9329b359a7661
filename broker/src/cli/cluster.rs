//! `kafka-cluster cluster-id` (`ClusterTool`).

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::admin::Admin;
use super::options::parse;

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
    ClusterId {
        /// HOST:PORT of a broker, or several with commas
        #[arg(short, long)]
        bootstrap_server: String,
        /// Properties file for the connection
        #[arg(short, long)]
        config: Option<String>,
    },
}

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let options: Options = match parse("cluster", arguments) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let Command::ClusterId {
        bootstrap_server, ..
    } = options.command;
    let id = Admin::connect(&bootstrap_server, "adminclient-1")
        .and_then(|mut admin| admin.metadata(Some(&[])))
        .map(|metadata| metadata.cluster_id);
    match id {
        Ok(Some(id)) => {
            println!("Cluster ID: {id}");
            ExitCode::SUCCESS
        }
        Ok(None) => {
            println!("No cluster ID found. The Kafka version is probably too old.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}
