//! `ottla server [server.properties] [KEY=VALUE…] [--override KEY=VALUE]…`: the broker in the
//! foreground, until SIGTERM (exit 143) or SIGINT (130), as `kafka-server-start` runs Kafka.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::broker::Broker;
use crate::config::Config;
use crate::config::logging::{self, Format};
use crate::config::sources::{Sources, log_notes};

const USAGE: &str = "\
ottla server [server.properties] [KEY=VALUE…] [--override KEY=VALUE]…

Runs a broker. Without a file and without settings in the environment: on localhost:9092, data in
./ottla-data, coordination data kept there too. --json-log writes log lines as JSON.
";

/// 128 + the signal, as the JVM ends.
const TERMINATED: u8 = 143;
const INTERRUPTED: u8 = 130;

/// Runs the broker.
pub fn run(arguments: &[String]) -> ExitCode {
    if arguments
        .iter()
        .any(|word| matches!(word.as_str(), "--help" | "-h"))
    {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match start(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("ottla: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn start(arguments: &[String]) -> Result<u8> {
    if arguments.iter().any(|word| word == "-daemon") {
        return start_in_background(arguments);
    }
    let (mut sources, format) = parse(arguments)?;
    let variables: Vec<_> = std::env::vars().collect();
    if sources.file.is_none()
        && sources.arguments.is_empty()
        && !variables.iter().any(|(name, _)| name.starts_with("KAFKA_"))
    {
        quick_start(&mut sources);
    }
    let loaded = sources.load(variables)?;
    logging::install(format, &loaded.environment);
    log_notes(&loaded);
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the control runtime")?;
    let code = control.block_on(serve(loaded));
    control.shutdown_background();
    code
}

/// Kafka's stock settings for a broker by itself, below what the command line overrides.
fn quick_start(sources: &mut Sources) {
    let given: Vec<String> = sources
        .overrides
        .iter()
        .filter_map(|pair| Some(pair.split_once('=')?.0.trim().to_owned()))
        .collect();
    sources.arguments = Config::quick_start()
        .into_iter()
        .filter(|(key, _)| !given.contains(key))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
}

fn parse(arguments: &[String]) -> Result<(Sources, Format)> {
    let mut sources = Sources {
        file: None,
        arguments: Vec::new(),
        overrides: Vec::new(),
        file_replaces_cfg: false,
    };
    let mut format = Format::Kafka;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--override" => match words.next() {
                Some(pair) => sources.overrides.push(pair.clone()),
                None => bail!("--override wants KEY=VALUE"),
            },
            "--json-log" => format = Format::Json,
            // There is no garbage to log.
            "-loggc" => {}
            word if word.starts_with("--override=") => {
                sources
                    .overrides
                    .push(word["--override=".len()..].to_owned());
            }
            word if word.starts_with('-') => {
                bail!("{word} is not a flag of ottla server\n\n{USAGE}")
            }
            word if word.contains('=') => sources.arguments.push(word.to_owned()),
            word if sources.file.is_none() => sources.file = Some(PathBuf::from(word)),
            word => bail!("{word}: one properties file is enough\n\n{USAGE}"),
        }
    }
    sources.file_replaces_cfg = sources
        .file
        .as_deref()
        .is_some_and(|file| file.starts_with("/opt/bitnami/kafka/config"));
    Ok((sources, format))
}

async fn serve(loaded: crate::config::sources::Loaded) -> Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let broker = tokio::select! {
        started = Broker::start(loaded) => match started {
            Ok(broker) => broker,
            Err(failure) => {
                error!(target: "kafka.server.KafkaServer", "Fatal error during KafkaServer startup. Prepare to shutdown: {failure}");
                return Err(failure.into());
            }
        },
        _ = terminate.recv() => return Ok(TERMINATED),
        _ = interrupt.recv() => return Ok(INTERRUPTED),
    };
    let dirs: Vec<_> = broker
        .log_dirs()
        .iter()
        .map(|dir| dir.display().to_string())
        .collect();
    let addresses = broker.addresses().join(", ");
    info!(target: "ottla", "Listening on {addresses}, data in {}. Try: kcat -b {} -L", dirs.join(", "),
        try_at(broker.addresses()));
    let (name, code) = tokio::select! {
        _ = terminate.recv() => ("SIGTERM", TERMINATED),
        _ = interrupt.recv() => ("SIGINT", INTERRUPTED),
        () = broker.failed() => {
            // The dirs are gone; nothing can be closed cleanly.
            return Ok(1);
        }
    };
    info!(target: "org.apache.kafka.common.utils.LoggingSignalHandler", "Terminating process due to signal {name}");
    broker.stop().await;
    Ok(code)
}

/// Where a client on this machine reaches the first listener.
fn try_at(addresses: &[String]) -> String {
    let at = addresses
        .first()
        .and_then(|address| address.split_once("://"))
        .map_or("localhost:9092", |(_, at)| at);
    match at.rsplit_once(':') {
        Some(("0.0.0.0" | "[::]", port)) => format!("localhost:{port}"),
        _ => at.to_owned(),
    }
}

/// `kafka-server-start -daemon`: the broker in a session of its own, its output in
/// `$LOG_DIR/kafkaServer.out` as Kafka's script has it.
fn start_in_background(arguments: &[String]) -> Result<u8> {
    use std::os::unix::process::CommandExt as _;
    let folder = std::env::var_os("LOG_DIR").map_or_else(|| PathBuf::from("logs"), PathBuf::from);
    let path = folder.join("kafkaServer.out");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let output = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
    std::process::Command::new(std::env::current_exe()?)
        .arg("server")
        .args(arguments.iter().filter(|word| *word != "-daemon"))
        .stdin(std::process::Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        // Ctrl-C of the shell that started it is not for the daemon.
        .process_group(0)
        .spawn()?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_are_those_of_kafka_server_start() {
        let (sources, _) = parse(&words(
            "a.properties --override broker.id=7 x.y=1 --override=log.dirs=/d",
        ))
        .unwrap();
        assert_eq!(sources.file, Some(PathBuf::from("a.properties")));
        assert_eq!(sources.overrides, ["broker.id=7", "log.dirs=/d"]);
        assert_eq!(sources.arguments, ["x.y=1"]);
        assert!(parse(&words("--nonsense")).is_err());
        assert!(parse(&words("a b")).is_err());
        assert!(parse(&words("--override")).is_err());
    }

    #[test]
    fn the_hint_is_an_address_that_can_be_connected_to() {
        for (address, hint) in [
            ("PLAINTEXT://[::]:9092", "localhost:9092"),
            ("PLAINTEXT://0.0.0.0:9192", "localhost:9192"),
            ("A://10.0.0.1:9092", "10.0.0.1:9092"),
        ] {
            assert_eq!(try_at(&[address.to_owned()]), hint);
        }
    }

    #[test]
    fn overrides_win_over_the_quick_start() {
        let (mut sources, _) = parse(&words("--override listeners=PLAINTEXT://:1")).unwrap();
        quick_start(&mut sources);
        assert!(
            sources
                .arguments
                .iter()
                .all(|pair| !pair.starts_with("listeners="))
        );
        assert!(sources.arguments.contains(&"broker.id=0".to_owned()));
    }
}
