// SPDX-License-Identifier: Apache-2.0
//! Whether the other end is still there. Times are milliseconds since any fixed moment.
//!
//! The node pings when it has heard nothing for a while, sooner when something it sent is not
//! answered; the hub only listens, as the node is never silent for longer than [`SILENCE_NODE`].
//! A ping costs about 55 bytes both ways, TLS included.

/// A node that has heard or said nothing for this long pings.
pub const SILENCE_NODE: u64 = 10_000;
/// A node whose sent data has brought no answer for this long pings.
pub const STALL: u64 = 3_000;
/// An unanswered ping after which the hub is taken for dead.
pub const PATIENCE: u64 = 5_000;
/// A hub that has heard nothing for this long takes the node for dead.
pub const SILENCE_HUB: u64 = 18_000;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing before this moment.
    Wait(u64),
    /// Send a ping.
    Ping,
    /// The other end is gone.
    Dead,
}

/// The clock of one link.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    pings: bool,
    heard: u64,
    said: u64,
    /// When data went out that nothing was heard after.
    unanswered: Option<u64>,
    pinged: Option<u64>,
}

impl Heartbeat {
    /// A link opened at `now`; the end with `pings` sends them.
    pub fn new(pings: bool, now: u64) -> Self {
        Self { pings, heard: now, said: now, unanswered: None, pinged: None }
    }

    /// Something arrived.
    pub fn heard(&mut self, now: u64) {
        self.heard = now;
        self.unanswered = None;
        self.pinged = None;
    }

    /// Something that asks for an answer was sent.
    pub fn said(&mut self, now: u64) {
        self.said = now;
        self.unanswered.get_or_insert(now);
    }

    /// What is due; after `Ping` a ping is taken as sent.
    pub fn poll(&mut self, now: u64) -> Beat {
        if !self.pings {
            let end = self.heard + SILENCE_HUB;
            return if now >= end { Beat::Dead } else { Beat::Wait(end) };
        }
        if let Some(pinged) = self.pinged {
            let end = pinged + PATIENCE;
            return if now >= end { Beat::Dead } else { Beat::Wait(end) };
        }
        let silence = self.heard.min(self.said) + SILENCE_NODE;
        let stall = self.unanswered.map_or(u64::MAX, |since| since + STALL);
        let due = silence.min(stall);
        if now < due {
            return Beat::Wait(due);
        }
        self.pinged = Some(now);
        self.said = now;
        Beat::Ping
    }

    /// When something last arrived.
    pub fn last_heard(&self) -> u64 {
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_node_pings_every_ten_seconds_and_the_hub_hears_it() {
        let (mut node, mut hub) = (Heartbeat::new(true, 0), Heartbeat::new(false, 0));
        let mut pings = 0;
        for now in (0..60_000).step_by(500) {
            match node.poll(now) {
                Beat::Ping => {
                    pings += 1;
                    hub.heard(now);
                    node.heard(now + 100);
                }
                Beat::Dead => panic!("dead at {now}"),
                Beat::Wait(_) => {}
            }
            assert_ne!(hub.poll(now), Beat::Dead);
        }
        assert_eq!(pings, 5);
    }

    #[test]
    fn a_half_open_link_is_noticed_within_fifteen_seconds_idle_and_eight_busy() {
        let mut idle = Heartbeat::new(true, 0);
        assert_eq!(idle.poll(9_999), Beat::Wait(10_000));
        assert_eq!(idle.poll(10_000), Beat::Ping);
        assert_eq!(idle.poll(10_000), Beat::Wait(15_000));
        assert_eq!(idle.poll(15_000), Beat::Dead);
        let mut busy = Heartbeat::new(true, 0);
        busy.said(1_000);
        busy.said(2_500);
        assert_eq!(busy.poll(4_000), Beat::Ping);
        assert_eq!(busy.poll(9_000), Beat::Dead);
    }

    #[test]
    fn a_hub_gives_up_a_silent_node() {
        let mut hub = Heartbeat::new(false, 0);
        hub.said(17_000);
        assert_eq!(hub.poll(17_999), Beat::Wait(18_000));
        assert_eq!(hub.poll(18_000), Beat::Dead);
    }

    #[test]
    fn a_node_that_only_listens_still_pings() {
        let mut node = Heartbeat::new(true, 0);
        node.heard(9_000);
        assert_eq!(node.poll(10_000), Beat::Ping);
    }
}
