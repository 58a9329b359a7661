//! The fetching side of an incremental fetch session (KIP-227): what the leader was last told, so
//! that a request says only what changed. [core]
//!
//! Invariants:
//! 1. `sent` is what the leader holds for this session; without a session, what the last request
//!    said.
//! 2. A session uses topic ids, or names, for all of its partitions: a change begins a new one.
//! 3. After an error the next request is a full one that closes the session.
//!
//! Source: `FetchSessionHandler.java`.

use std::collections::{BTreeSet, HashMap};

use crate::error::ErrorCode;
use crate::replica::session::{
    INITIAL_EPOCH, NO_SESSION, PartitionKey, TopicKey, Wanted, next_epoch,
};
use crate::types::{TopicName, TopicPartition, Uuid};

/// What is asked for of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    pub topic_id: Option<Uuid>,
    pub wanted: Wanted,
}

/// A Fetch request to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchAsk {
    pub session_id: i32,
    pub session_epoch: i32,
    /// Decides the version: by id from 13 on.
    pub uses_topic_ids: bool,
    pub partitions: Vec<(TopicPartition, Sent)>,
    pub forgotten: Vec<(TopicPartition, Option<Uuid>)>,
}

/// The fetching side of one session.
#[derive(Debug, Default)]
pub struct FetcherSession {
    id: i32,
    /// Of the next request.
    epoch: i32,
    uses_topic_ids: bool,
    sent: HashMap<TopicPartition, Sent>,
    /// Partitions of `sent` without a topic id.
    nameless: usize,
    names: HashMap<Uuid, TopicName>,
    /// Partitions that may differ from `sent`.
    changed: BTreeSet<TopicPartition>,
}

impl FetcherSession {
    /// Notes that a partition may have to be told anew, or no more.
    pub fn touch(&mut self, partition: &TopicPartition) {
        if !self.changed.contains(partition) {
            self.changed.insert(partition.clone());
        }
    }

    /// What the request on its way asked for of `partition`.
    pub fn sent(&self, partition: &TopicPartition) -> Option<&Sent> {
        self.sent.get(partition)
    }

    /// The next request, `None` when there is nothing to fetch. `current` answers what is wanted of
    /// a partition now, `None` when it is not fetched; `all` lists every partition that is, in the
    /// order in which they should be read.
    pub fn build(
        &mut self,
        current: impl Fn(&TopicPartition) -> Option<Sent>,
        all: impl FnOnce() -> Vec<(TopicPartition, Sent)>,
    ) -> Option<FetchAsk> {
        if self.epoch != INITIAL_EPOCH {
            let changed = std::mem::take(&mut self.changed);
            let ask = self.incremental(&changed, current);
            if (self.nameless == 0) == self.uses_topic_ids {
                return ask;
            }
            self.restart();
        }
        self.full(all())
    }

    fn incremental(
        &mut self,
        changed: &BTreeSet<TopicPartition>,
        current: impl Fn(&TopicPartition) -> Option<Sent>,
    ) -> Option<FetchAsk> {
        let mut partitions = Vec::new();
        let mut forgotten = Vec::new();
        for partition in changed {
            let before = self.sent.get(partition).copied();
            let now = current(partition);
            if before == now {
                continue;
            }
            if let Some(before) = before {
                // By name the new one simply takes the old one's place.
                let is_replaced =
                    self.uses_topic_ids && now.is_some_and(|now| now.topic_id != before.topic_id);
                if now.is_none() || is_replaced {
                    forgotten.push((partition.clone(), before.topic_id));
                }
            }
            self.put(partition, now);
            partitions.extend(now.map(|now| (partition.clone(), now)));
        }
        (!self.sent.is_empty() || !forgotten.is_empty()).then_some(FetchAsk {
            session_id: self.id,
            session_epoch: self.epoch,
            uses_topic_ids: self.uses_topic_ids,
            partitions,
            forgotten,
        })
    }

    fn full(&mut self, all: Vec<(TopicPartition, Sent)>) -> Option<FetchAsk> {
        self.changed.clear();
        self.sent.clear();
        self.names.clear();
        self.nameless = 0;
        for (partition, sent) in &all {
            self.put(partition, Some(*sent));
        }
        self.uses_topic_ids = self.nameless == 0;
        (!all.is_empty()).then_some(FetchAsk {
            session_id: self.id,
            session_epoch: INITIAL_EPOCH,
            uses_topic_ids: self.uses_topic_ids,
            partitions: all,
            forgotten: Vec::new(),
        })
    }

    fn put(&mut self, partition: &TopicPartition, now: Option<Sent>) {
        let before = match now {
            Some(now) => {
                match now.topic_id {
                    None => self.nameless += 1,
                    Some(id) => {
                        self.names
                            .entry(id)
                            .or_insert_with(|| partition.topic.clone());
                    }
                }
                self.sent.insert(partition.clone(), now)
            }
            None => self.sent.remove(partition),
        };
        if before.is_some_and(|before| before.topic_id.is_none()) {
            self.nameless -= 1;
        }
    }

    /// A partition of an answer, by its name.
    pub fn resolve(&self, key: &PartitionKey) -> Option<TopicPartition> {
        let topic = match &key.topic {
            TopicKey::Name(name) => name.clone(),
            TopicKey::Id(id) => self.names.get(id)?.clone(),
        };
        Some(TopicPartition {
            topic,
            partition: key.partition,
        })
    }

    /// Takes the head of an answer and the partitions it names; false when it is of no use.
    pub fn accept(
        &mut self,
        error: ErrorCode,
        session_id: i32,
        told: &[Option<TopicPartition>],
    ) -> bool {
        match error {
            ErrorCode::None => {}
            ErrorCode::FetchSessionIdNotFound => {
                self.forget();
                return false;
            }
            _ => {
                self.restart();
                return false;
            }
        }
        let is_full = self.epoch == INITIAL_EPOCH;
        let known = |partition: &Option<TopicPartition>| {
            partition
                .as_ref()
                .is_some_and(|partition| self.sent.contains_key(partition))
        };
        let is_valid = told.iter().all(known) && (!is_full || told.len() == self.sent.len());
        if !is_valid {
            if is_full {
                self.forget();
            } else {
                self.restart();
            }
            return false;
        }
        if session_id == NO_SESSION {
            self.forget();
        } else {
            self.epoch = if is_full {
                next_epoch(INITIAL_EPOCH)
            } else {
                next_epoch(self.epoch)
            };
            self.id = session_id;
        }
        true
    }

    /// The next request is a full one that closes this session and asks for another (keeps 3).
    pub fn restart(&mut self) {
        self.epoch = INITIAL_EPOCH;
    }

    /// The next request is a full one, and there is no session to close.
    fn forget(&mut self) {
        self.id = NO_SESSION;
        self.epoch = INITIAL_EPOCH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn partition(index: i32) -> TopicPartition {
        TopicPartition::new("t", index)
    }

    fn sent(offset: i64, topic_id: Option<Uuid>) -> Sent {
        Sent {
            topic_id,
            wanted: Wanted {
                fetch_offset: offset,
                max_bytes: 1,
                current_leader_epoch: Some(0),
                last_fetched_epoch: None,
                log_start_offset: 0,
            },
        }
    }

    /// A session over the partitions with these offsets, and what happens to it.
    struct Case {
        session: FetcherSession,
        now: HashMap<TopicPartition, Sent>,
    }

    impl Case {
        fn new(offsets: &[i64]) -> Self {
            let now = (0..)
                .zip(offsets)
                .map(|(index, &offset)| (partition(index), sent(offset, Some(ID))))
                .collect();
            Self {
                session: FetcherSession::default(),
                now,
            }
        }

        fn set(&mut self, index: i32, sent: Option<Sent>) {
            match sent {
                Some(sent) => drop(self.now.insert(partition(index), sent)),
                None => drop(self.now.remove(&partition(index))),
            }
            self.session.touch(&partition(index));
        }

        fn build(&mut self) -> Option<FetchAsk> {
            let now = &self.now;
            self.session.build(
                |partition| now.get(partition).copied(),
                || {
                    let mut all: Vec<_> =
                        now.iter().map(|(key, sent)| (key.clone(), *sent)).collect();
                    all.sort_by(|a, b| a.0.cmp(&b.0));
                    all
                },
            )
        }

        fn answer(&mut self, error: ErrorCode, id: i32, told: &[i32]) -> bool {
            let told: Vec<_> = told.iter().map(|&index| Some(partition(index))).collect();
            self.session.accept(error, id, &told)
        }

        /// With a session of id 5.
        fn opened(offsets: &[i64]) -> Self {
            let mut case = Self::new(offsets);
            let ask = case.build().unwrap();
            assert_eq!((ask.session_id, ask.session_epoch), (0, 0));
            let all: Vec<i32> = (0..offsets.len() as i32).collect();
            assert!(case.answer(ErrorCode::None, 5, &all));
            case
        }
    }

    #[test]
    fn a_session_is_told_only_what_changed() {
        let mut case = Case::opened(&[0, 0, 0]);
        case.set(1, Some(sent(9, Some(ID))));
        case.set(2, None);
        case.set(0, Some(sent(0, Some(ID))));
        let ask = case.build().unwrap();
        assert_eq!((ask.session_id, ask.session_epoch), (5, 1));
        assert_eq!(ask.partitions, [(partition(1), sent(9, Some(ID)))]);
        assert_eq!(ask.forgotten, [(partition(2), Some(ID))]);
        assert!(case.answer(ErrorCode::None, 5, &[1]));
        let ask = case.build().unwrap();
        assert_eq!(ask.session_epoch, 2);
        assert!(ask.partitions.is_empty() && ask.forgotten.is_empty());
    }

    #[test]
    fn another_topic_id_forgets_the_old_one() {
        let mut case = Case::opened(&[0]);
        let other = Uuid::from_u128(8);
        case.set(0, Some(sent(0, Some(other))));
        let ask = case.build().unwrap();
        assert_eq!(ask.partitions, [(partition(0), sent(0, Some(other)))]);
        assert_eq!(ask.forgotten, [(partition(0), Some(ID))]);
    }

    #[test]
    fn a_partition_without_an_id_makes_the_session_use_names() {
        let mut case = Case::opened(&[0]);
        case.set(1, Some(sent(0, None)));
        let ask = case.build().unwrap();
        assert_eq!((ask.session_id, ask.session_epoch), (5, 0));
        assert!(!ask.uses_topic_ids);
        assert_eq!(ask.partitions.len(), 2);
        assert!(case.answer(ErrorCode::None, 6, &[0, 1]));
        case.set(1, Some(sent(0, Some(ID))));
        let ask = case.build().unwrap();
        assert!(ask.uses_topic_ids);
        assert_eq!((ask.session_id, ask.session_epoch), (6, 0));
    }

    #[test]
    fn an_id_that_comes_later_forgets_nothing_while_names_are_used() {
        let mut case = Case::new(&[]);
        for index in 0..2 {
            case.set(index, Some(sent(0, None)));
        }
        case.build().unwrap();
        assert!(case.answer(ErrorCode::None, 5, &[0, 1]));
        case.set(0, Some(sent(0, Some(ID))));
        let ask = case.build().unwrap();
        assert_eq!((ask.session_epoch, ask.uses_topic_ids), (1, false));
        assert_eq!(ask.partitions, [(partition(0), sent(0, Some(ID)))]);
        assert!(ask.forgotten.is_empty());
    }

    #[test]
    fn errors_and_answers_of_other_partitions_begin_anew() {
        for (error, told, expect) in [
            (ErrorCode::FetchSessionIdNotFound, &[][..], (0, 0)),
            (ErrorCode::InvalidFetchSessionEpoch, &[], (5, 0)),
            (ErrorCode::None, &[7], (5, 0)),
        ] {
            let mut case = Case::opened(&[0, 0]);
            case.build().unwrap();
            assert!(!case.answer(error, 5, told), "{error:?}");
            let ask = case.build().unwrap();
            assert_eq!((ask.session_id, ask.session_epoch), expect, "{error:?}");
            assert_eq!(ask.partitions.len(), 2);
        }
        let mut case = Case::new(&[0, 0]);
        case.build().unwrap();
        assert!(!case.answer(ErrorCode::None, 5, &[0]), "one is left out");
    }

    #[test]
    fn without_a_session_every_request_is_full() {
        let mut case = Case::new(&[0, 0]);
        for _ in 0..3 {
            let ask = case.build().unwrap();
            assert_eq!((ask.session_id, ask.session_epoch), (0, 0));
            assert_eq!(ask.partitions.len(), 2);
            assert!(case.answer(ErrorCode::None, 0, &[0, 1]));
        }
    }

    #[test]
    fn the_last_partition_is_forgotten_with_a_request_and_then_there_is_none() {
        let mut case = Case::opened(&[0]);
        case.set(0, None);
        assert_eq!(case.build().unwrap().forgotten.len(), 1);
        assert!(case.answer(ErrorCode::None, 0, &[]));
        assert_eq!(case.build(), None);
    }
}
