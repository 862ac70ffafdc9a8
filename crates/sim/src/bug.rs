//! Errors put into the simulated node on purpose. A checker that has never failed proves nothing.

/// A mistake that a node could make in carrying out the cores' effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Reports a segment as durable without having synced it.
    SkipFsync,
    /// Puts pages of a transaction that has not committed yet into the segment before it.
    ShipPastCommit,
    /// Tells the client before the segment is in the log.
    AckBeforeLog,
    /// Goes on as primary whatever became of its lease and epoch.
    IgnoreEpoch,
    /// A replica keeps accepting, and acknowledging, what older primaries send.
    IgnoreFence,
    /// Lets readers at the primary see a commit that is not in the log yet, under the position
    /// before it.
    ReadBeforeLog,
    /// Answers reads from the local copy whatever the bookmark says.
    IgnoreBookmark,
    /// Recovers the pages without applying the log after the checkpoint again.
    SkipRedo,
    /// Deletes a diverged tail instead of setting it aside.
    DropTail,
    /// A relay judges who greets it as a primary does: it sends back who is ahead of it.
    RelayAsPrimary,
}

impl Bug {
    pub const ALL: [Self; 10] = [
        Self::SkipFsync,
        Self::ShipPastCommit,
        Self::AckBeforeLog,
        Self::IgnoreEpoch,
        Self::IgnoreFence,
        Self::ReadBeforeLog,
        Self::IgnoreBookmark,
        Self::SkipRedo,
        Self::DropTail,
        Self::RelayAsPrimary,
    ];
}
