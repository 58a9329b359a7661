//! Bugs that a test seeds to see that the exploration of the core finds them. Outside tests there
//! are none: the question is answered at compile time.

/// One rule of the core, left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// An election leaves the leader epoch as it is.
    LeaderEpochStands,
    /// The first live replica becomes leader, whether in the ISR or not.
    ElectsOutsideIsr,
    /// A replica that goes offline stays leader.
    DeadLeaderStays,
    /// The last member of an ISR leaves it when it goes offline.
    LastMemberLeavesIsr,
    /// A refused write is taken for done.
    BelievesRefusedWrite,
    /// A reassignment is concluded before the new replicas have caught up.
    ConcludesReassignmentEarly,
    /// Replicas that a reassignment removes stay in the ISR.
    RemovedReplicaStaysInIsr,
    /// A broker that was away shortly is not told of its replicas again.
    OverlooksBouncedBroker,
    /// A broker that is back is not told of its replicas.
    NewBrokerIsNotTold,
    /// A broker that has stopped in a controlled way stays out for ever.
    ShuttingDownForEver,
    /// A deletion that was halted is not taken up when the broker is back.
    DeletionStaysHalted,
    /// A changed ISR is told to nobody.
    IsrChangeIsNotTold,
    /// AlterPartition is accepted from whoever asks.
    AnybodyAltersIsr,
}

/// Whether this rule is left out.
#[cfg(not(test))]
pub(super) const fn seeded(_: Bug) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static SEEDED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(super) fn seeded(bug: Bug) -> bool {
    SEEDED.get() == Some(bug)
}

/// Leaves a rule out on this thread until called again.
#[cfg(test)]
pub(super) fn seed(bug: Option<Bug>) {
    SEEDED.set(bug);
}

#[cfg(test)]
impl Bug {
    pub(super) const ALL: [Self; 13] = [
        Self::LeaderEpochStands,
        Self::ElectsOutsideIsr,
        Self::DeadLeaderStays,
        Self::LastMemberLeavesIsr,
        Self::BelievesRefusedWrite,
        Self::ConcludesReassignmentEarly,
        Self::RemovedReplicaStaysInIsr,
        Self::OverlooksBouncedBroker,
        Self::NewBrokerIsNotTold,
        Self::ShuttingDownForEver,
        Self::DeletionStaysHalted,
        Self::IsrChangeIsNotTold,
        Self::AnybodyAltersIsr,
    ];
}
