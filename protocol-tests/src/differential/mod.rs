//! The same requests to Apache Kafka 3.9 and to Ottla, and the answers compared field by field.
//!
//! A case is a function that sends requests in pairs ([`Case::ask`]). Every difference is collected
//! and told with API, version, case, field path and both values; those in [`accepted::ACCEPTED`] are
//! counted only. What must differ between two brokers is replaced first, see [`tree`].

pub mod accepted;
mod report;
mod tree;
mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, MetadataRequest};
use kafka_protocol::protocol::Request;
use ottla::api::Api;

use report::Report;
use tree::Names;
use wire::{Connection, Outcome};

/// How long a condition may take to hold on both sides.
const PATIENCE: Duration = Duration::from_secs(20);

/// The same thing of both sides.
#[derive(Debug, Clone, Default)]
pub struct Both<T> {
    pub kafka: T,
    pub ottla: T,
}

impl<T> Both<T> {
    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> Both<U> {
        Both {
            kafka: f(&self.kafka),
            ottla: f(&self.ottla),
        }
    }

    pub fn zip<U: Clone>(&self, other: &Both<U>) -> Both<(T, U)>
    where
        T: Clone,
    {
        Both {
            kafka: (self.kafka.clone(), other.kafka.clone()),
            ottla: (self.ottla.clone(), other.ottla.clone()),
        }
    }
}

impl<T: Clone> From<T> for Both<T> {
    fn from(one: T) -> Self {
        Self {
            kafka: one.clone(),
            ottla: one,
        }
    }
}

/// A named case.
pub type Test = (&'static str, fn(&mut Case<'_>) -> Result<()>);

/// A run against two brokers.
pub struct Run {
    addresses: Both<SocketAddr>,
    names: Both<Names>,
    /// What both offer: key, lowest, highest version.
    offered: Vec<(i16, i16, i16)>,
    compared: BTreeSet<(i16, i16)>,
    report: Report,
}

impl Run {
    /// `own`: texts of each side that have a common name, such as its folder.
    pub fn new(
        addresses: Both<SocketAddr>,
        mut own: Both<Vec<(String, &'static str)>>,
    ) -> Result<Self> {
        let lists = Both {
            kafka: api_versions(addresses.kafka)?,
            ottla: api_versions(addresses.ottla)?,
        };
        let mut offered = Vec::new();
        for api in &lists.kafka.api_keys {
            let other = lists
                .ottla
                .api_keys
                .iter()
                .find(|other| other.api_key == api.api_key);
            if let Some(other) = other {
                offered.push((
                    api.api_key,
                    api.min_version.max(other.min_version),
                    api.max_version.min(other.max_version),
                ));
            }
        }
        own.kafka.extend(identity(addresses.kafka)?);
        own.ottla.extend(identity(addresses.ottla)?);
        Ok(Self {
            names: Both {
                kafka: Names::new(own.kafka),
                ottla: Names::new(own.ottla),
            },
            addresses,
            offered,
            compared: BTreeSet::new(),
            report: Report::default(),
        })
    }

    /// Runs the cases whose name contains one of the filters; all when there is none. `Err`: the
    /// text that says what is wrong.
    pub fn run(mut self, cases: &[Test], filters: &[String]) -> Result<String, String> {
        for (name, test) in cases {
            let wanted = filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
            if !wanted {
                continue;
            }
            let started = Instant::now();
            let before = self.report.answers();
            self.names.kafka.forget();
            self.names.ottla.forget();
            let mut case = Case {
                wires: Vec::new(),
                name,
                run: &mut self,
            };
            case.wire();
            let done = catch_unwind(AssertUnwindSafe(|| test(&mut case)));
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.report.broken(name, format!("{error:#}")),
                Err(_) => self.report.broken(name, "panicked, see above".to_owned()),
            }
            println!(
                "case {name}: {} answers compared ({:.1} s)",
                self.report.answers() - before,
                started.elapsed().as_secs_f64()
            );
        }
        if filters.is_empty() {
            for (key, min, max) in &self.offered {
                for version in *min..=*max {
                    if !self.compared.contains(&(*key, version)) {
                        let api = api_name(*key);
                        self.report
                            .broken("coverage", format!("no case asks {api} v{version}"));
                    }
                }
            }
        }
        self.report.finish(filters.is_empty())
    }
}

fn api_name(key: i16) -> String {
    Api::of(key).map_or_else(|| format!("API {key}"), |api| api.name.to_owned())
}

fn single<R: Request>(address: SocketAddr, version: i16, request: &R) -> Result<R::Response> {
    let mut connection = Connection::new(address);
    connection.send(version, request)?;
    match connection.receive::<R>(version) {
        Outcome::Answer(answer) => Ok(answer),
        other => bail!("{address}: {:?}", other.text()),
    }
}

fn api_versions(address: SocketAddr) -> Result<ApiVersionsResponse> {
    single(address, 0, &ApiVersionsRequest::default())
}

/// Names of a broker's port and cluster, once it has heard of its controller: before, it could not
/// create a topic.
fn identity(address: SocketAddr) -> Result<Vec<(String, &'static str)>> {
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let led = asked_until(address, 4, "a controller", &request, |answer| {
        answer.controller_id.0 >= 0 && !answer.brokers.is_empty()
    })?;
    let cluster = led.cluster_id;
    let mut names = vec![(address.port().to_string(), "<port>")];
    names.extend(cluster.map(|id| (id.to_string(), "<cluster id>")));
    Ok(names)
}

/// Asks until the answer is as wished.
fn asked_until<R: Request>(
    address: SocketAddr,
    version: i16,
    what: &str,
    request: &R,
    is_wished: impl Fn(&R::Response) -> bool,
) -> Result<R::Response>
where
    R::Response: std::fmt::Debug,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = single(address, version, request)?;
        if is_wished(&answer) {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {PATIENCE:?} at {address}: {answer:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A case as it runs: its connections, in pairs, and where its answers are compared.
pub struct Case<'a> {
    run: &'a mut Run,
    name: &'static str,
    wires: Vec<Both<Connection>>,
}

/// A pair of connections, one to each side.
pub type Wire = usize;

impl Case<'_> {
    /// Versions of an API that both sides offer; none when one of them does not offer the API.
    pub fn versions<R: Request>(&self) -> impl Iterator<Item = i16> + use<R> {
        let found = self.run.offered.iter().find(|(key, _, _)| *key == R::KEY);
        found.map(|&(_, min, max)| min..=max).into_iter().flatten()
    }

    /// Another pair of connections.
    pub fn wire(&mut self) -> Wire {
        self.wires
            .push(self.run.addresses.map(|address| Connection::new(*address)));
        self.wires.len() - 1
    }

    /// Sends a request to both on the case's first connection, and compares the answers.
    pub fn ask<R: Request + Clone>(
        &mut self,
        version: i16,
        what: &str,
        request: R,
    ) -> Result<Both<R::Response>>
    where
        R::Response: Default + std::fmt::Debug,
    {
        self.ask_on(0, version, what, request.into())
    }

    /// The same with requests that differ in what must differ, such as member ids.
    pub fn ask_each<R: Request + Clone>(
        &mut self,
        version: i16,
        what: &str,
        requests: Both<R>,
    ) -> Result<Both<R::Response>>
    where
        R::Response: Default + std::fmt::Debug,
    {
        self.ask_on(0, version, what, requests)
    }

    pub fn ask_on<R: Request + Clone>(
        &mut self,
        wire: Wire,
        version: i16,
        what: &str,
        requests: Both<R>,
    ) -> Result<Both<R::Response>>
    where
        R::Response: Default + std::fmt::Debug,
    {
        self.send(wire, version, &requests)?;
        self.receive::<R>(wire, version, what)
    }

    /// Sends without waiting for the answers.
    pub fn send<R: Request>(&mut self, wire: Wire, version: i16, request: &Both<R>) -> Result<()> {
        let wire = &mut self.wires[wire];
        wire.kafka.send(version, &request.kafka)?;
        wire.ottla.send(version, &request.ottla)
    }

    /// Sends a body that the codec would not write.
    pub fn send_body<R: Request>(&mut self, wire: Wire, version: i16, body: &[u8]) -> Result<()> {
        let wire = &mut self.wires[wire];
        wire.kafka.send_body::<R>(version, body)?;
        wire.ottla.send_body::<R>(version, body)
    }

    /// Sends a frame with its own header.
    pub fn send_frame(&mut self, wire: Wire, frame: &[u8]) -> Result<()> {
        let wire = &mut self.wires[wire];
        wire.kafka.send_frame(frame)?;
        wire.ottla.send_frame(frame)
    }

    /// Compares the answers to what was sent. A side that gave none has the default.
    pub fn receive<R: Request>(
        &mut self,
        wire: Wire,
        version: i16,
        what: &str,
    ) -> Result<Both<R::Response>>
    where
        R::Response: Default + std::fmt::Debug,
    {
        let wire = &mut self.wires[wire];
        let kafka = wire.kafka.receive::<R>(version);
        let ottla = wire.ottla.receive::<R>(version);
        for (side, is_silent) in [("Kafka", kafka.is_silent()), ("Ottla", ottla.is_silent())] {
            if is_silent {
                println!(
                    "{side} does not answer {} v{version} {what:?}",
                    api_name(R::KEY)
                );
            }
        }
        let lines = Both {
            kafka: kafka.lines(&mut self.run.names.kafka),
            ottla: ottla.lines(&mut self.run.names.ottla),
        };
        self.run.compared.insert((R::KEY, version));
        self.run
            .report
            .compare(&api_name(R::KEY), version, self.name, what, &lines);
        Ok(Both {
            kafka: kafka.answer(),
            ottla: ottla.answer(),
        })
    }

    /// The bytes of the next answers, compared as they are.
    pub fn receive_bytes(&mut self, wire: Wire, key: i16, version: i16, what: &str) {
        let wire = &mut self.wires[wire];
        let lines = Both {
            kafka: wire.kafka.receive_bytes(),
            ottla: wire.ottla.receive_bytes(),
        }
        .map(|bytes: &Outcome<Bytes>| bytes.lines(&mut Names::default()));
        self.run
            .report
            .compare(&api_name(key), version, self.name, what, &lines);
    }

    /// Asks each side on a connection of its own until its answer is as wished. Nothing is compared.
    pub fn until<R: Request + Clone>(
        &mut self,
        version: i16,
        what: &str,
        request: Both<R>,
        is_wished: impl Fn(&R::Response) -> bool,
    ) -> Result<()>
    where
        R::Response: std::fmt::Debug,
    {
        let sides = [
            (self.run.addresses.kafka, request.kafka),
            (self.run.addresses.ottla, request.ottla),
        ];
        for (address, request) in sides {
            asked_until(address, version, what, &request, &is_wished)?;
        }
        Ok(())
    }
}
