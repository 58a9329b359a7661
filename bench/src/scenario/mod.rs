//! The scenarios, in the order in which they run: what matters most comes first.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::figure::{Figure, Figures};
use crate::load::{Latencies, Measured};
use crate::system::{Kind, Launcher, System};

pub mod fetch;
pub mod groups;
pub mod life;
pub mod produce;
pub mod scale;
pub mod tail;
pub mod tools;

/// What a figure is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// Ottla's figure by Kafka's, pair by pair: at most this.
    OfKafka(f64),
    /// The floor's figure by Ottla's, pair by pair: at least this.
    OfFloor(f64),
    AtMost(f64),
    AtLeast(f64),
    /// By the same figure of another scenario: at most this.
    OfScenario(&'static str, f64),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// As the project's list of targets numbers it.
    pub point: &'static str,
    pub figure: Figure,
    pub bar: Bar,
}

impl Target {
    pub fn is_reached(&self, measured: f64) -> bool {
        match self.bar {
            Bar::OfFloor(least) | Bar::AtLeast(least) => measured >= least,
            Bar::OfKafka(most) | Bar::AtMost(most) | Bar::OfScenario(_, most) => measured <= most,
        }
    }
}

pub const fn target(point: &'static str, figure: Figure, bar: Bar) -> Target {
    Target { point, figure, bar }
}

/// How much of everything to do.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Of requests and bytes; 1 for a full run.
    pub size: f64,
}

impl Scale {
    pub fn of(&self, count: u64) -> u64 {
        ((count as f64 * self.size) as u64).max(1)
    }
}

/// What one run is told.
pub struct Run<'a> {
    pub launcher: &'a Launcher,
    pub scale: Scale,
    /// Counts all runs; makes names that were not used before.
    pub number: u32,
}

/// The systems that run all the time, warmed up. A scenario gets one after the other.
pub trait Work {
    /// Once per system, before its first run.
    fn prepare(&mut self, _: &Run<'_>, _: &mut System) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, run: &Run<'_>, system: &mut System) -> Result<Figures>;

    /// Once per system, after its last run.
    fn finish(&mut self, _: &mut System) -> Result<()> {
        Ok(())
    }
}

/// Starts what it measures by itself.
pub trait ApartWork {
    fn run(&mut self, run: &Run<'_>, kind: Kind) -> Result<Figures>;
}

pub enum Task {
    Shared(Box<dyn Work>),
    Apart(Box<dyn ApartWork>),
}

pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub task: Task,
    pub targets: Vec<Target>,
    /// Whether the floor can do it.
    pub has_floor: bool,
    /// However many are asked for: some take long.
    pub most_pairs: usize,
}

impl Scenario {
    fn shared(name: &'static str, about: &'static str, work: impl Work + 'static) -> Self {
        Self {
            name,
            about,
            task: Task::Shared(Box::new(work)),
            targets: Vec::new(),
            has_floor: true,
            most_pairs: usize::MAX,
        }
    }

    fn apart(name: &'static str, about: &'static str, work: impl ApartWork + 'static) -> Self {
        Self {
            name,
            about,
            task: Task::Apart(Box::new(work)),
            targets: Vec::new(),
            has_floor: false,
            most_pairs: usize::MAX,
        }
    }

    fn without_floor(mut self) -> Self {
        self.has_floor = false;
        self
    }

    fn at_most_pairs(mut self, most: usize) -> Self {
        self.most_pairs = most;
        self
    }

    fn targets(mut self, targets: &[Target]) -> Self {
        self.targets.extend_from_slice(targets);
        self
    }
}

/// Figures of a run that moved bytes in requests.
pub(crate) fn figures(measured: &Measured) -> Figures {
    let mut figures = BTreeMap::new();
    let requests = measured.requests as f64;
    let gigabytes = measured.totals.bytes as f64 / 1e9;
    if gigabytes > 0.0 {
        figures.insert(Figure::MbPerSecond, gigabytes * 1e3 / measured.seconds);
        figures.insert(Figure::ClientCpuPerGb, measured.client_cpu / gigabytes);
    }
    figures.insert(Figure::RequestsPerSecond, requests / measured.seconds);
    figures.insert(
        Figure::ClientCpuPerRequest,
        measured.client_cpu * 1e6 / requests,
    );
    if let Some(cpu) = measured.broker_cpu {
        if gigabytes > 0.0 {
            figures.insert(Figure::CpuPerGb, cpu / gigabytes);
        }
        figures.insert(Figure::CpuPerRequest, cpu * 1e6 / requests);
    }
    let names = [Figure::P50, Figure::P99, Figure::P999];
    quantiles(&mut figures, names, &measured.latencies);
    figures
}

/// p50, p99 and p99.9 in microseconds.
pub(crate) fn quantiles(figures: &mut Figures, names: [Figure; 3], latencies: &Latencies) {
    if latencies.is_empty() {
        return;
    }
    for (name, quantile) in names.into_iter().zip([0.5, 0.99, 0.999]) {
        let nanoseconds = latencies.value_at_quantile(quantile);
        figures.insert(name, nanoseconds as f64 / 1e3);
    }
}

pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(produce::batched());
    all.extend(produce::unbatched());
    all.extend(fetch::catch_up());
    all.extend(tail::fixed_rates());
    all.extend(life::start());
    all.extend(groups::all());
    all.extend(scale::connections());
    all.extend(scale::partitions());
    all.extend(produce::variants());
    all.extend(fetch::wide());
    all.extend(tail::cold_reader());
    all.extend(life::topics());
    all.extend(tools::all());
    all.extend(life::recovery());
    // Leaves 10,000 partitions behind, so it comes last.
    all.extend(scale::ten_thousand());
    all
}

/// Load of every kind, the first scenario's first.
pub fn warm_up() -> Vec<Box<dyn Work>> {
    produce::warm_up()
}
