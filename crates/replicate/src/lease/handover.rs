//! Planned hand-over: writes stop, the successor has everything and everything is settled, the
//! lease is released in its name, it claims at once. Nothing is lost; writers wait for one round
//! trip to the successor and two swaps.

use verge_types::Position;

use crate::lease::core::Role;
use crate::lease::{Effect, Lease, Local};
use crate::{Moment, NodeId};

#[derive(Clone, Debug)]
pub(super) struct HandOver {
    pub to: NodeId,
    pub deadline: Moment,
    /// The final rank, once no write runs any more.
    pub stopped_at: Option<Position>,
    pub reached: Option<Position>,
    pub settled: Option<Position>,
    /// All conditions hold: release.
    pub ready: bool,
}

impl Lease {
    pub(super) fn on_hand_over(&mut self, to: NodeId, now: Moment, out: &mut Vec<Effect>) {
        let valid = self.valid_epoch(now).is_some();
        let allowed = valid && to != self.config.me && self.config.voters.contains(&to);
        let deadline = now + self.config.hand_over_limit;
        match &mut self.role {
            Role::Holder(holder) if allowed && holder.hand_over.is_none() => {
                holder.hand_over = Some(HandOver {
                    to,
                    deadline,
                    stopped_at: None,
                    reached: None,
                    settled: None,
                    ready: false,
                });
                out.push(Effect::StopWrites);
            }
            _ => out.push(Effect::HandOverFailed { to }),
        }
    }

    pub(super) fn on_progress(&mut self, from: NodeId, rank: Position, settled: Option<Position>) {
        let Role::Holder(holder) = &mut self.role else { return };
        let Some(hand_over) = &mut holder.hand_over else { return };
        if from == hand_over.to {
            hand_over.reached = hand_over.reached.max(Some(rank));
        }
        hand_over.settled = hand_over.settled.max(settled);
    }

    pub(super) fn drive_hand_over(&mut self, local: Local<'_>, now: Moment, out: &mut Vec<Effect>) {
        let Role::Holder(holder) = &mut self.role else { return };
        let (until, outbid) = (holder.until, holder.outbid.is_some());
        let Some(hand_over) = &mut holder.hand_over else { return };
        if hand_over.ready {
            return; // Released or not: the register will tell.
        }
        if let Some(end) = hand_over.stopped_at {
            let complete = hand_over.reached >= Some(end) && hand_over.settled >= Some(end);
            if complete && local.rank() == end && now < until {
                hand_over.ready = true;
                out.push(Effect::Retracted);
                return;
            }
        }
        if now >= hand_over.deadline {
            let to = hand_over.to;
            holder.hand_over = None;
            if !outbid {
                out.push(Effect::ResumeWrites);
            }
            out.push(Effect::HandOverFailed { to });
        }
    }
}
