//! One confirmable exchange: what was asked, how often, and until when an answer is awaited.
//!
//! Times follow RFC 7252, 4.2: the first wait is drawn from one to one and a half times the
//! least, each further one is twice as long. It writes nothing. Bound: one message.

use std::time::Duration;

use actorsim_actors::Time;

use super::Options;
use super::packet::Block;
use crate::generator::noise;

/// Lane of the draws of first waits.
const WAIT_LANE: u64 = 0x636f_6170_7761_6974;
/// Longest first wait, in parts of the least.
const RANDOM_FACTOR: f64 = 1.5;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The first reply that waits.
    Reply,
    /// To be told of commands.
    Watch,
    /// The next block of a command.
    Rest(u32),
    /// The first sample that waits.
    Sample,
}

/// What an exchange wants when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Again,
    GivenUp,
}

/// An exchange that waits for its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) what: What,
    pub(super) id: u16,
    pub(super) token: u32,
    /// The part of the body that is under way, if it does not fit one message.
    pub(super) block: Option<Block>,
    at: Time,
    wait: Duration,
    again: u8,
    acknowledged: bool,
}

impl Exchange {
    pub(super) fn new(
        (what, id, token): (What, u16, u32),
        options: &Options,
        seed: u64,
        now: Time,
    ) -> Self {
        let drawn = noise::uniform(seed, id.into(), WAIT_LANE);
        let factor = 1.0 + (RANDOM_FACTOR - 1.0) * drawn;
        Self {
            what,
            id,
            token,
            block: None,
            at: now,
            wait: options.ack_timeout.mul_f64(factor),
            again: 0,
            acknowledged: false,
        }
    }

    /// The message has come; its answer follows.
    pub(super) fn acknowledge(&mut self, now: Time) {
        self.acknowledged = true;
        self.at = now;
    }

    pub(super) fn deadline(&self, options: &Options) -> Time {
        match self.acknowledged {
            true => self.at + options.answer_timeout,
            false => self.at + self.wait,
        }
    }

    /// Looks at the time; a message to be sent again waits twice as long for its answer.
    pub(super) fn expire(&mut self, options: &Options, now: Time) -> Due {
        if now < self.deadline(options) {
            return Due::Nothing;
        }
        if self.acknowledged || self.again >= options.retransmit_max {
            return Due::GivenUp;
        }
        self.again += 1;
        self.at = now;
        self.wait *= 2;
        Due::Again
    }
}
