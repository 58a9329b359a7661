//! `zookeeper-shell HOST:PORT COMMAND`: what health checks and scripts ask of ZooKeeper, in the
//! output of `org.apache.zookeeper.ZooKeeperMainWithTlsSupportForKafka`. One command, no prompt.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;

use crate::zk::connect::ConnectString;
use crate::zk::ensemble::{Ensemble, EnsembleConfig};
use crate::zk::{CreateMode, Error, Stat, Store};

const USAGE: &str = "\
USAGE: zookeeper-shell zookeeper_host:port[/path] [-zk-tls-config-file file] COMMAND
COMMAND: ls PATH | get PATH | stat PATH | create PATH [DATA] | set PATH DATA | delete PATH | deleteall PATH
";
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// A health check must not hang where no ZooKeeper is.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let Some((connect, command)) = arguments.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::from(1);
    };
    match shell(connect, command) {
        Ok(output) => {
            println!(
                "Connecting to {connect}\n\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null\n{output}"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}

fn shell(connect: &str, command: &[String]) -> Result<String> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    if words.is_empty() {
        bail!("there is no prompt here: give a command\n{USAGE}");
    }
    let config = EnsembleConfig {
        connect: ConnectString::parse(connect)?,
        session_timeout: SESSION_TIMEOUT,
        connection_timeout: CONNECTION_TIMEOUT,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("a runtime")?;
    runtime.block_on(async {
        let store = Ensemble::connect(config).await?;
        let done = execute(&store, &words).await;
        store.close().await;
        done
    })
}

/// Carries out one command; its output.
async fn execute(store: &dyn Store, words: &[&str]) -> Result<String> {
    let refused = |error: Error| match error {
        Error::NoNode { path } => anyhow::anyhow!("Node does not exist: {path}"),
        Error::NodeExists { path } => anyhow::anyhow!("Node already exists: {path}"),
        Error::NotEmpty { path } => anyhow::anyhow!("Node not empty: {path}"),
        other => other.into(),
    };
    Ok(match words {
        ["ls", path] => format!(
            "[{}]",
            store.children(path).await.map_err(refused)?.join(", ")
        ),
        ["get", path] => {
            let (data, _) = store.get(path).await.map_err(refused)?;
            String::from_utf8_lossy(&data).into_owned()
        }
        ["stat", path] => match store.exists(path).await? {
            Some(stat) => stat_lines(&stat),
            None => bail!("Node does not exist: {path}"),
        },
        ["create", path, rest @ ..] => {
            let data = Bytes::from(rest.concat());
            store
                .create(path, data, CreateMode::Persistent)
                .await
                .map_err(refused)?;
            format!("Created {path}")
        }
        ["set", path, data] => {
            let data = Bytes::copy_from_slice(data.as_bytes());
            store.set(path, data, None).await.map_err(refused)?;
            String::new()
        }
        ["delete", path] => {
            store.delete(path, None).await.map_err(refused)?;
            String::new()
        }
        ["deleteall" | "rmr", path] => {
            delete_all(store, path).await.map_err(refused)?;
            String::new()
        }
        _ => bail!("`{}` is not a command here\n{USAGE}", words.join(" ")),
    })
}

/// Children first.
async fn delete_all(store: &dyn Store, path: &str) -> Result<(), Error> {
    let mut left = vec![path.to_owned()];
    while let Some(next) = left.last().cloned() {
        let children = store.children(&next).await?;
        if children.is_empty() {
            store.delete(&next, None).await?;
            left.pop();
        } else {
            let parent = next.trim_end_matches('/');
            left.extend(children.iter().map(|child| format!("{parent}/{child}")));
        }
    }
    Ok(())
}

fn stat_lines(stat: &Stat) -> String {
    format!(
        "cZxid = 0x{:x}\nmZxid = 0x{:x}\ncversion = {}\ndataVersion = {}\nephemeralOwner = 0x{:x}\nnumChildren = {}",
        stat.czxid,
        stat.mzxid,
        stat.cversion,
        stat.version,
        stat.ephemeral_owner,
        stat.num_children
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::zk::embedded::Embedded;

    #[tokio::test]
    async fn commands_answer_as_zookeepers_shell() {
        let store = Embedded::in_memory(Arc::new(SystemClock)).connect();
        for (command, output) in [
            ("create /a x", "Created /a"),
            ("create /a/b", "Created /a/b"),
            ("ls /", "[a]"),
            ("ls /a", "[b]"),
            ("get /a", "x"),
            ("set /a y", ""),
            ("get /a", "y"),
            ("delete /a", "Node not empty: /a"),
            ("deleteall /a", ""),
            ("ls /a", "Node does not exist: /a"),
            ("stat /a", "Node does not exist: /a"),
        ] {
            let words: Vec<&str> = command.split(' ').collect();
            let got = match execute(&store, &words).await {
                Ok(output) => output,
                Err(error) => error.to_string(),
            };
            assert_eq!(got, output, "{command}");
        }
        assert!(execute(&store, &["quit", "/a"]).await.is_err());
    }
}
