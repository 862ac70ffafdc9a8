//! Who a node is, to the other nodes.

use std::fmt;

/// A node's identity: drawn at random when its data folder is made, and kept there. It outlives
/// the process; what tells two runs apart is the incarnation in a lease's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{:x}", self.0)
    }
}
