//! Random sequences of operations against a plain list of batches.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    /// So many records of so many bytes, in the epoch so far plus this.
    Append {
        count: usize,
        size: usize,
        epoch_bump: i32,
    },
    /// To this many thousandths of the log.
    Truncate(i64),
    TruncateFully(i64),
    AdvanceStart(i64),
    Retention,
    Restart,
    Crash,
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1usize..5, 0usize..300, 0i32..2).prop_map(|(count, size, bump)| Step::Append {
            count,
            size,
            epoch_bump: i32::from(bump == 1 && size % 7 == 0),
        }),
        2 => (0i64..=1000).prop_map(Step::Truncate),
        1 => (0i64..20).prop_map(Step::TruncateFully),
        1 => (0i64..=1000).prop_map(Step::AdvanceStart),
        1 => Just(Step::Retention),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        1 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the log should hold.
#[derive(Default)]
struct Model {
    /// First and last offset, epoch.
    batches: Vec<(Offset, Offset, LeaderEpoch)>,
    start: Offset,
    end: Offset,
    epoch: LeaderEpoch,
}

impl Model {
    fn check(&self, log: &Log) {
        assert_eq!(log.log_end_offset(), self.end);
        assert!(log.log_start_offset() <= log.high_watermark());
        assert!(log.high_watermark() <= log.log_end_offset());
        let expect: Vec<_> = self
            .batches
            .iter()
            .filter(|&&(_, last, _)| last >= self.start)
            .map(|&(first, last, _)| (first, last))
            .collect();
        assert_eq!(offsets_from(log, self.start), expect);
        for &(first, last, epoch) in &self.batches {
            if first >= self.start {
                assert_eq!(offsets_from(log, last)[0], (first, last));
                // A log start that a crash took back leaves the epochs of the raised one.
                if log.earliest_epoch().is_some_and(|(_, from)| from <= first) {
                    assert_eq!(log.epoch_for_offset(first), Some(epoch));
                }
                // A bound at every batch: nothing beyond, everything below.
                let info = log.read(request(first, last + 1)).unwrap();
                let bytes = bytes_of(&info.region.unwrap());
                assert_eq!(Batch::parse(&bytes).unwrap().bytes().len(), bytes.len());
            }
        }
    }
}

fn run(config: LogConfig, steps: &[Step]) {
    let mut bench = Bench::new(config);
    let mut model = Model::default();
    for step in steps {
        let log = bench.log();
        let span = model.end - model.start;
        match step {
            Step::Append {
                count,
                size,
                epoch_bump,
            } => {
                model.epoch += epoch_bump;
                let info = log
                    .append_as_leader(&batch_at(NOW, *count, *size), model.epoch)
                    .unwrap();
                assert_eq!(info.base_offset, model.end);
                model
                    .batches
                    .push((info.base_offset, info.last_offset, model.epoch));
                model.end = info.last_offset + 1;
                log.advance_high_watermark(model.end);
            }
            Step::Truncate(thousandths) => {
                let mut to = model.start + span * thousandths / 1000;
                // Followers truncate to batch borders, for epochs begin and end there; and not
                // below a log start that a checkpoint may know already.
                if let Some(&(_, last, _)) = model
                    .batches
                    .iter()
                    .find(|&&(first, last, _)| first < to && to <= last)
                {
                    to = last + 1;
                }
                log.truncate_to(to).unwrap();
                model.batches.retain(|&(_, last, _)| last < to);
                model.end = to;
            }
            Step::TruncateFully(ahead) => {
                let to = model.end + ahead;
                log.truncate_fully_and_start_at(to).unwrap();
                model.batches.clear();
                (model.start, model.end) = (to, to);
            }
            Step::AdvanceStart(thousandths) => {
                let to = model.start + span * thousandths / 1000;
                log.advance_high_watermark(model.end);
                log.advance_log_start_offset(to).unwrap();
                model.start = to;
            }
            Step::Retention => {
                log.advance_high_watermark(model.end);
                log.delete_old_segments().unwrap();
                model.start = log.log_start_offset();
            }
            Step::Flush => {
                bench.run_jobs();
                log.flush().unwrap();
                bench.manager().checkpoint_recovery_points();
                assert_eq!(log.recovery_point(), model.end);
            }
            Step::Restart | Step::Crash => {
                drop(log);
                if matches!(step, Step::Restart) {
                    bench.restart();
                } else {
                    // The log start offset may be checkpointed or not; here it is not.
                    bench.run_jobs();
                    bench.crash();
                    model.start = bench.log().log_start_offset();
                    assert!(model.start <= model.end);
                }
                bench.log().reset_high_watermark(model.end);
            }
        }
        model.check(&bench.log());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_holds_what_a_list_holds(steps in steps(), small in any::<bool>()) {
        run(
            LogConfig {
                segment_bytes: if small { 2000 } else { 1 << 20 },
                index_interval_bytes: if small { 300 } else { 4096 },
                segment_index_bytes: 4096,
                retention_bytes: 6000,
                ..LogConfig::default()
            },
            &steps,
        );
    }
}
