//! Shipping: from our log, or a snapshot, to followers.

use std::collections::VecDeque;

use verge_replicate::lease::Event as LeaseEvent;
use verge_replicate::ship::{Effect, Event};

use super::Work;
use crate::world::World;

impl World {
    pub(super) fn ship_effect(
        &mut self,
        node: usize,
        term: u64,
        effect: Effect,
        work: &mut VecDeque<Work>,
    ) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let storage = &mut machine.storage;
        match effect {
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Load { to, session, after, max_bytes } => {
                let lineage = process.lineage();
                let segments = storage.load(&lineage, after, process.txid, max_bytes);
                work.push_back(Work::Ship(Event::Loaded { to, session, segments }));
            }
            Effect::OpenSnapshot { to, session } => {
                let position = process.lineage().position(process.txid);
                let event = match storage.open_snapshot((to, session), position) {
                    Some(snapshot) => Event::SnapshotOpened { to, session, snapshot },
                    None => Event::SnapshotFailed { to, session },
                };
                self.snapshots += 1;
                work.push_back(Work::Ship(event));
            }
            Effect::LoadChunk { to, session, chunk } => {
                let event = match storage.chunk((to, session), chunk) {
                    Some((bytes, last)) => Event::ChunkLoaded { to, session, chunk, last, bytes },
                    None => Event::SnapshotFailed { to, session },
                };
                work.push_back(Work::Ship(event));
            }
            Effect::CloseSnapshot { to, session } => storage.close_snapshot((to, session)),
            Effect::Acknowledge { up_to } => {
                let later = process.pending.split_off(&(up_to + 1));
                let settled = std::mem::replace(&mut process.pending, later);
                for request in settled.into_values().flatten() {
                    self.acknowledge(node, term, &request);
                }
            }
            Effect::Retain { from } => storage.retain(from),
            Effect::Fenced { epoch } => {
                work.push_back(Work::Lease(LeaseEvent::Fenced { epoch }));
            }
            Effect::Progress { from, rank, settled } => {
                let progress = LeaseEvent::Progress { from, rank, settled };
                work.push_back(Work::Lease(progress));
            }
        }
    }
}
