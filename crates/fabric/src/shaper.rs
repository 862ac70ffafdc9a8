//! What a link does to bytes, as a pure function of time: when does what was sent arrive?
//!
//! One [`Shaper`] is one direction of one connection. Bytes stay in order, as on TCP, so a lost
//! packet cannot be dropped: it costs a retransmission, and everything behind it waits.

use std::time::Duration;

use crate::random::Random;

/// Bytes in a packet, for counting how many may be lost.
const PACKET: usize = 1460;
/// A retransmission costs at least this, as TCP's minimal timeout does.
const MIN_RETRANSMIT: Duration = Duration::from_millis(200);
/// The timeout doubles at each loss of the same packet, up to this many times.
const MAX_LOSSES: u32 = 6;

/// The state of one direction of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// From one end to the other: half a round trip.
    pub delay: Duration,
    /// Up to this much more, uniformly.
    pub jitter: Duration,
    /// Chance of a packet to be lost, `0.0..=1.0`.
    pub loss: f64,
    /// Bytes a second; `None` is unlimited.
    pub bandwidth: Option<u64>,
    /// Nothing arrives until the link is healed.
    pub cut: bool,
}

impl Conditions {
    /// A link with this one-way delay and nothing else.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// True when bytes may pass untouched.
    pub fn is_clear(&self) -> bool {
        *self == Self::default()
    }
}

/// Times are durations since any fixed moment of the caller's.
#[derive(Debug)]
pub struct Shaper {
    conditions: Conditions,
    random: Random,
    /// When the sender's end of the wire is free again.
    wire_free: Duration,
    /// When the last byte arrives; nothing arrives before it.
    last_arrival: Duration,
}

impl Shaper {
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            random: Random::new(seed),
            wire_free: Duration::ZERO,
            last_arrival: Duration::ZERO,
        }
    }

    pub fn conditions(&self) -> Conditions {
        self.conditions
    }

    /// From now on the link is like this. Bytes already under way are judged again by
    /// [`Self::arrival`]'s caller: see [`Self::hasten`].
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// `bytes` are sent at `now`: when do they arrive, if the link is not cut then?
    pub fn arrival(&mut self, now: Duration, bytes: usize) -> Duration {
        let begin = self.wire_free.max(now);
        self.wire_free = begin + self.time_on_wire(bytes);
        let travel = self.conditions.delay + self.jitter() + self.retransmissions(bytes);
        self.last_arrival = self.last_arrival.max(self.wire_free + travel);
        self.last_arrival
    }

    /// Conditions changed while bytes were to arrive at `arrival`: no later than a link of the
    /// new conditions would bring them. Never before what was sent earlier (`after`).
    pub fn hasten(
        &mut self,
        now: Duration,
        arrival: Duration,
        bytes: usize,
        after: Duration,
    ) -> Duration {
        let begin = now.max(after.saturating_sub(self.conditions.delay));
        let fresh = begin + self.time_on_wire(bytes) + self.conditions.delay;
        arrival.min(fresh).max(after)
    }

    /// After [`Self::hasten`] was asked for all bytes under way: the last of them arrives then.
    pub fn hastened(&mut self, now: Duration, last_arrival: Duration) {
        self.last_arrival = last_arrival;
        self.wire_free = now.max(last_arrival.saturating_sub(self.conditions.delay));
    }

    fn time_on_wire(&self, bytes: usize) -> Duration {
        match self.conditions.bandwidth {
            Some(rate) => Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64),
            None => Duration::ZERO,
        }
    }

    fn jitter(&mut self) -> Duration {
        match self.conditions.jitter {
            Duration::ZERO => Duration::ZERO,
            jitter => jitter.mul_f64(self.random.unit()),
        }
    }

    fn retransmissions(&mut self, bytes: usize) -> Duration {
        let mut waited = Duration::ZERO;
        if self.conditions.loss <= 0.0 {
            return waited;
        }
        let timeout = MIN_RETRANSMIT.max(self.conditions.delay * 2 + self.conditions.jitter);
        // Packets of one piece are resent together: the unluckiest decides.
        for _ in 0..bytes.div_ceil(PACKET).max(1) {
            let mut packet = Duration::ZERO;
            for losses in 0..MAX_LOSSES {
                if self.random.unit() >= self.conditions.loss {
                    break;
                }
                packet += timeout * 2u32.pow(losses);
            }
            waited = waited.max(packet);
        }
        waited
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn delay_alone_is_exact() {
        let mut shaper = Shaper::new(Conditions::delayed(ms(40)), 1);
        assert_eq!(shaper.arrival(ms(0), 10), ms(40));
        assert_eq!(shaper.arrival(ms(5), 1 << 20), ms(45));
    }

    #[test]
    fn bandwidth_spaces_bytes_out() {
        let slow = Conditions { bandwidth: Some(1000), ..Conditions::delayed(ms(10)) };
        let mut shaper = Shaper::new(slow, 1);
        assert_eq!(shaper.arrival(ms(0), 100), ms(110));
        assert_eq!(shaper.arrival(ms(0), 100), ms(210));
        assert_eq!(shaper.arrival(ms(1000), 100), ms(1110), "an idle wire is free");
    }

    #[test]
    fn loss_is_a_retransmission_and_happens_as_often_as_said() {
        let lossy = Conditions { loss: 0.1, ..Conditions::delayed(ms(10)) };
        let mut shaper = Shaper::new(lossy, 7);
        let late = (0..10_000u64)
            .filter(|round| {
                let now = ms(round * 100_000);
                shaper.arrival(now, 100) - now >= ms(210)
            })
            .count();
        assert!((900..1100).contains(&late), "{late}");
    }

    #[test]
    fn total_loss_still_ends() {
        let mut shaper = Shaper::new(Conditions { loss: 1.0, ..Conditions::default() }, 1);
        assert_eq!(shaper.arrival(ms(0), 1), ms(200 * 63));
    }

    #[test]
    fn a_link_made_fast_again_does_not_keep_what_was_slow() {
        let mut shaper = Shaper::new(Conditions::delayed(Duration::from_secs(60)), 1);
        let old = shaper.arrival(ms(0), 10);
        shaper.set(Conditions::delayed(ms(5)));
        let new = shaper.hasten(ms(100), old, 10, Duration::ZERO);
        assert_eq!(new, ms(105));
        shaper.hastened(ms(100), new);
        assert_eq!(shaper.arrival(ms(101), 10), ms(106));
    }

    proptest! {
        #[test]
        fn order_is_kept_and_nothing_is_early(
            steps in prop::collection::vec((0u64..50, 1usize..40_000, 0u64..100, 0u64..100), 1..60),
            loss in 0.0f64..0.9,
            seed in any::<u64>(),
        ) {
            let mut shaper = Shaper::new(Conditions::default(), seed);
            let (mut now, mut last) = (Duration::ZERO, Duration::ZERO);
            for (pause, bytes, delay, jitter) in steps {
                now += ms(pause);
                shaper.set(Conditions {
                    delay: ms(delay), jitter: ms(jitter), loss, bandwidth: Some(1_000_000), cut: false,
                });
                let arrival = shaper.arrival(now, bytes);
                prop_assert!(arrival >= now + ms(delay));
                prop_assert!(arrival >= last);
                last = arrival;
            }
        }

        #[test]
        fn a_seed_repeats(seed in any::<u64>(), loss in 0.0f64..1.0) {
            let conditions = Conditions { jitter: ms(30), loss, ..Conditions::default() };
            let run = || {
                let mut shaper = Shaper::new(conditions, seed);
                (0..50).map(|i| shaper.arrival(ms(i), 3000)).collect::<Vec<_>>()
            };
            prop_assert_eq!(run(), run());
        }
    }
}
