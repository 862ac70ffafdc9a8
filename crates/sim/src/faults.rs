//! What goes wrong, by the seed's will.

use verge_replicate::lease;
use verge_replicate::{AckMode, NodeId};

use crate::net::REGISTER;
use crate::node::Work;
use crate::plan::MILLISECOND;
use crate::storage::Fault;
use crate::world::{Event, World};

impl World {
    /// One fault, and the date of the next.
    pub fn fault(&mut self) {
        if self.time >= self.plan.trouble {
            return;
        }
        let node = self.rng.index(self.nodes.len());
        let other = match self.rng.index(self.nodes.len() + 1) {
            index if index == self.nodes.len() => REGISTER,
            index => index,
        };
        let kind = self.rng.range(0, 19);
        self.trace(|| format!("fault {kind} at n{node}, {other}"));
        match kind {
            0 => self.crash(node),
            1 | 2 => self.end_soon(node),
            3 => self.kill_primary(),
            4 | 5 => {
                // Up to almost three leases.
                let pause = self.rng.range(100, 4000) * MILLISECOND;
                self.nodes[node].paused_until = self.time + pause;
            }
            6 => self.net.cut(node, other),
            7 => {
                self.net.cut(node, other);
                self.net.cut(other, node);
            }
            8 => self.isolate(node),
            9 | 10 => self.net.heal(),
            11 => self.net.slow(node, other),
            12 => self.jump(node),
            13 => {
                let tells = self.plan.files && self.rng.chance(500);
                self.nodes[node].storage.fault(Fault::Full { tells });
                let delay = self.rng.range(100, 3000) * MILLISECOND;
                self.after(delay, Event::Space { node });
            }
            14 => self.nodes[node].storage.fault(Fault::SyncFails),
            15 => self.ask_hand_over(),
            16 | 17 => self.half_cut(),
            _ => self.rare(node),
        }
        let around = self.plan.fault_every;
        let next = self.rng.range(around / 3, around * 2);
        self.after(next, Event::Fault);
    }

    /// Ends a process between two steps: of its own, or of its disk.
    fn end_soon(&mut self, node: usize) {
        let steps = self.rng.range(0, 40);
        let machine = &mut self.nodes[node];
        if self.plan.files && machine.process.is_some() && self.rng.chance(700) {
            machine.storage.fault(Fault::Power { steps });
        } else {
            machine.kill_in = Some(steps as u32);
        }
    }

    fn isolate(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.net.cut(node, other);
            self.net.cut(other, node);
        }
        if self.rng.chance(500) {
            self.net.cut(node, REGISTER);
        }
    }

    /// The primary loses the register and one voter, but not the others.
    fn half_cut(&mut self) {
        let Some(primary) = self.primary() else { return };
        let voter = self.rng.range(0, self.plan.voters) as usize;
        for other in [REGISTER, voter] {
            self.net.cut(primary, other);
            self.net.cut(other, primary);
        }
    }

    /// Wall clocks jump as they like, both ways. The monotonic one jumps forward only, by any
    /// amount: a suspended machine that wakes.
    fn jump(&mut self, node: usize) {
        self.wall_offset[node] = self.rng.range(0, 1 << 40);
        if self.rng.chance(500) {
            self.nodes[node].clock_offset += self.rng.range(0, 5000) * MILLISECOND;
        }
    }

    fn primary(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| {
            let now = self.clock(*node);
            let process = self.nodes[*node].process.as_ref();
            process.is_some_and(|process| process.lease.valid_epoch(now).is_some())
        })
    }

    fn kill_primary(&mut self) {
        if let Some(node) = self.primary() {
            self.crash(node);
        }
    }

    fn ask_hand_over(&mut self) {
        let to = NodeId(self.rng.range(0, self.plan.voters));
        if let Some(node) = self.primary() {
            self.dispatch(node, vec![Work::Lease(lease::Event::HandOver { to })]);
        }
    }

    /// Once a run at most: a disk is lost, or an operator restores an older state.
    fn rare(&mut self, node: usize) {
        if self.rare_done {
            return;
        }
        self.rare_done = true;
        // In `local` a lost disk may take acknowledged writes with it; that is what it says.
        if self.plan.mode != AckMode::Local && self.rng.chance(600) {
            self.crash(node);
            self.nodes[node].storage.wipe();
            self.trace(|| format!("n{node} loses its disk"));
        } else if let Some(node) = self.primary() {
            let now = self.clock(node);
            let back = self.rng.range(1, 12);
            if self.plan.files {
                self.restore_on(node, back);
                return;
            }
            let Some(process) = &mut self.nodes[node].process else { return };
            let Some(epoch) = process.lease.valid_epoch(now) else { return };
            process.restore_to = Some(process.txid.saturating_sub(back).max(1));
            let event = lease::Event::Fenced { epoch: epoch + 1 };
            self.dispatch(node, vec![Work::Lease(event)]);
        }
    }

    /// The end of trouble: everything works from now on.
    pub fn heal(&mut self) {
        self.net.calm();
        for node in 0..self.nodes.len() {
            let machine = &mut self.nodes[node];
            machine.paused_until = machine.paused_until.min(self.time);
            machine.kill_in = None;
            machine.storage.fault(Fault::Heal);
        }
    }
}
