//! The order of a run: start everything, measure once cold, warm up, then each scenario in turns
//! A B A B. Results are written after every scenario, so that what was measured is kept.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::process::MachineTime;
use crate::report::{Outcome, Pair, Report, describe_machine};
use crate::scenario::{self, Run, Scale, Scenario, Task, Work};
use crate::system::{Kind, Launcher, Places, System};

/// Ottla has nothing to compile; caches and the allocator settle in a moment.
const NATIVE_WARM_UP: Duration = Duration::from_secs(3);

pub struct Plan {
    pub places: Places,
    /// The first is what Ottla is compared with.
    pub kinds: Vec<Kind>,
    pub pairs: usize,
    pub only: Vec<String>,
    pub size: f64,
    /// Seconds.
    pub warm_up: u64,
    pub data: PathBuf,
    pub out: PathBuf,
    pub command: Vec<String>,
}

pub fn run(plan: Plan) -> Result<()> {
    let mut scenarios = scenario::all();
    scenarios.retain(|scenario| {
        plan.only.is_empty()
            || plan
                .only
                .iter()
                .any(|word| scenario.name.contains(word.as_str()))
    });
    ensure!(
        !scenarios.is_empty(),
        "no scenario has such a name; --list tells them"
    );
    let first = plan.kinds[0];
    let machine = describe_machine(&plan.places)?;
    let mut report = Report::new(machine, plan.command.join(" "), plan.pairs, first);
    let bar = progress_bar(&scenarios, plan.pairs);
    let launcher = Launcher::new(plan.places, &plan.data)?;
    let mut runner = Runner {
        launcher: &launcher,
        systems: Vec::new(),
        scale: Scale { size: plan.size },
        number: 0,
        bar,
    };
    let is_any_shared = scenarios
        .iter()
        .any(|scenario| matches!(scenario.task, Task::Shared(_)));
    if is_any_shared {
        for &kind in &plan.kinds {
            runner.say(format!("starting {}", kind.label()));
            runner.systems.push(launcher.launch(kind)?);
        }
        runner.warm_up(&mut report, Duration::from_secs(plan.warm_up))?;
    }
    for scenario in scenarios {
        let outcome = runner.measure(scenario, &plan.kinds, plan.pairs);
        runner.bar.suspend(|| println!("{}", outcome.lines(first)));
        report.outcomes.push(outcome);
        report.write(&plan.out)?;
    }
    runner.bar.finish_and_clear();
    println!("{}", report.headline());
    println!("written to {}", plan.out.display());
    let failed: Vec<_> = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some())
        .map(|outcome| outcome.name)
        .collect();
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn progress_bar(scenarios: &[Scenario], pairs: usize) -> ProgressBar {
    let runs: usize = scenarios
        .iter()
        .map(|scenario| pairs.min(scenario.most_pairs))
        .sum();
    let bar = ProgressBar::new(runs as u64);
    if let Ok(style) = ProgressStyle::with_template(
        "{elapsed_precise} [{bar:30}] pair {pos} of {len}, {eta} to go: {msg}",
    ) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

struct Runner<'a> {
    launcher: &'a Launcher,
    systems: Vec<System>,
    scale: Scale,
    number: u32,
    bar: ProgressBar,
}

impl Runner<'_> {
    fn say(&self, what: String) {
        self.bar.set_message(what);
    }

    fn next<'b>(number: &mut u32, launcher: &'b Launcher, scale: Scale) -> Run<'b> {
        *number += 1;
        Run {
            launcher,
            scale,
            number: *number,
        }
    }

    /// The first scenario once as they are, for what a cold JVM costs; then load of every kind.
    fn warm_up(&mut self, report: &mut Report, time: Duration) -> Result<()> {
        for system in &mut self.systems {
            let mut work = scenario::warm_up();
            let run = Self::next(&mut self.number, self.launcher, self.scale);
            let mut first = work.remove(0);
            let cold = first.run(&run, system).context("the cold run")?;
            report.cold.insert(system.kind, cold);
            let time = match system.kind {
                Kind::Kafka | Kind::Peer => time,
                Kind::Ottla | Kind::Base | Kind::Floor => time.min(NATIVE_WARM_UP),
            };
            let started = Instant::now();
            let mut turns: Vec<Box<dyn Work>> = vec![first];
            turns.extend(work);
            let label = system.kind.label();
            for turn in 0.. {
                if started.elapsed() >= time {
                    break;
                }
                let left = time.saturating_sub(started.elapsed()).as_secs();
                self.bar
                    .set_message(format!("warming up {label}, {left} s"));
                let index = turn % turns.len();
                let run = Self::next(&mut self.number, self.launcher, self.scale);
                turns[index].run(&run, system).context("warming up")?;
            }
        }
        Ok(())
    }

    /// A scenario that fails is told of and the next one follows: a broker that loses records is a
    /// result.
    fn measure(&mut self, scenario: Scenario, kinds: &[Kind], pairs: usize) -> Outcome {
        let Scenario {
            name,
            about,
            mut task,
            targets,
            has_floor,
            most_pairs,
        } = scenario;
        let kinds: Vec<(usize, Kind)> = kinds
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, kind)| kind.is_broker() || has_floor)
            .collect();
        let mut measured = Vec::new();
        let turns = self.turns(
            name,
            &mut task,
            &kinds,
            pairs.min(most_pairs),
            &mut measured,
        );
        Outcome {
            name,
            about,
            targets,
            pairs: measured,
            failure: turns.err().map(|error| format!("{error:#}")),
        }
    }

    fn turns(
        &mut self,
        name: &str,
        task: &mut Task,
        kinds: &[(usize, Kind)],
        pairs: usize,
        measured: &mut Vec<Pair>,
    ) -> Result<()> {
        if let Task::Shared(work) = task {
            for &(index, kind) in kinds {
                let what = format!("{name}: preparing {}", kind.label());
                self.say(what.clone());
                let run = Self::next(&mut self.number, self.launcher, self.scale);
                work.prepare(&run, &mut self.systems[index]).context(what)?;
            }
        }
        for _ in 0..pairs {
            let mut pair = Pair::default();
            for &(index, kind) in kinds {
                let what = format!("{name}: {}", kind.label());
                self.say(what.clone());
                let machine = MachineTime::now()?;
                let run = Self::next(&mut self.number, self.launcher, self.scale);
                let figures = match task {
                    Task::Shared(work) => work.run(&run, &mut self.systems[index]),
                    Task::Apart(work) => work.run(&run, kind),
                }
                .context(what)?;
                pair.figures.insert(kind, figures);
                pair.stolen = pair.stolen.max(machine.stolen_since()?);
            }
            measured.push(pair);
            self.bar.inc(1);
        }
        if let Task::Shared(work) = task {
            for &(index, kind) in kinds {
                work.finish(&mut self.systems[index])
                    .with_context(|| format!("{name}: after the last run of {}", kind.label()))?;
            }
        }
        Ok(())
    }
}
