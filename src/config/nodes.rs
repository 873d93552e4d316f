//! What settings of nodes must keep to.

use super::{Nodes, Rule};

impl Nodes {
    pub(super) fn rules(&self) -> [Rule; 2] {
        [
            (
                "nodes.renew_every_s",
                self.renew_every_s,
                self.renew_every_s >= 1 && self.renew_every_s * 2 <= self.fence_s,
                "at least 1 and at most half of nodes.fence_s",
            ),
            (
                "nodes.fence_s",
                self.fence_s,
                self.fence_s < self.lease_s,
                "less than nodes.lease_s: a node stops its jobs before others start them",
            ),
        ]
    }
}
