//! The fault vocabulary: every fault that a plan can name, and the places where it can act.
//!
//! A fault that a place cannot do is refused when the plan is loaded, with the reason. Nothing is
//! broken here. Bound: a closed list.

use std::fmt;

/// Where a plan is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A test, on paused time.
    Test,
    /// `actorsim sim`: a whole node on virtual time, with a simulated network.
    Sim,
    /// A running node.
    Live,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Test => "a test",
            Self::Sim => "a simulation",
            Self::Live => "a live node",
        })
    }
}

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// An actor ends at once, without its last step.
    Kill,
    /// An actor is stopped in order, behind its supervisor's back.
    Stop,
    /// A handler panics.
    Panic,
    /// A handler returns a fault.
    ErrorReturn,
    /// An actor handles nothing for a time.
    Hang,
    /// A handler takes longer.
    SlowHandler,
    /// A mailbox is full.
    MailboxFull,
    /// Packets of a link are lost.
    DropMsg,
    /// Packets of a link arrive twice.
    DupMsg,
    /// Packets of a link arrive late.
    DelayMsg,
    /// Packets of a link arrive in another order.
    ReorderAcrossSenders,
    /// A clock jumps.
    ClockJump,
    /// A node ends.
    NodeCrash,
    /// A node stands still.
    NodePause,
    /// The thread of a shard ends, and its cells with it.
    HostDown,
    /// No packet of a link arrives.
    Partition,
    /// Packets of a link are held back, then all arrive.
    Clog,
    /// Several links clog one by one, and are freed in another order.
    Swizzle,
    /// An actor does not start.
    StartFails,
    /// The start of an actor does not end.
    StartHangs,
    /// A device tells what is not so.
    DeviceLies,
}

/// A fault, its name, what it does, and why a place cannot do it (test, sim, live).
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The fault.
    pub fault: Fault,
    /// Its name in a plan.
    pub name: &'static str,
    /// What it does, for the reference.
    pub what: &'static str,
    why_not: [Option<&'static str>; 3],
}

const ANYWHERE: [Option<&str>; 3] = [None, None, None];
const NODES: [Option<&str>; 3] = [
    None,
    None,
    Some("the plan would end, or stand still, with its node; send SIGKILL or SIGSTOP from outside"),
];
const DEVICES: [Option<&str>; 3] = [
    Some("a test has no devices of a fleet; use `actorsim sim` or a running node"),
    None,
    None,
];

/// The vocabulary.
pub const FAULTS: [Entry; 21] = [
    entry(Fault::Kill, "kill", "ends an actor at once", ANYWHERE),
    entry(
        Fault::Stop,
        "stop",
        "stops an actor in order, unasked by its supervisor",
        ANYWHERE,
    ),
    entry(
        Fault::Panic,
        "panic",
        "lets the handler of an actor, a device or a system panic",
        ANYWHERE,
    ),
    entry(
        Fault::ErrorReturn,
        "error_return",
        "lets the handler of an actor or a device fail",
        ANYWHERE,
    ),
    entry(
        Fault::Partition,
        "partition",
        "no packet of a link arrives, both ways or one",
        ANYWHERE,
    ),
    entry(
        Fault::Clog,
        "clog",
        "packets of a link are held back, then all arrive",
        ANYWHERE,
    ),
    entry(
        Fault::DropMsg,
        "drop_msg",
        "a share of a link's packets is lost",
        ANYWHERE,
    ),
    entry(
        Fault::DupMsg,
        "dup_msg",
        "a share of a link's packets arrives twice",
        ANYWHERE,
    ),
    entry(
        Fault::DelayMsg,
        "delay_msg",
        "packets of a link arrive late by `delay`",
        ANYWHERE,
    ),
    entry(
        Fault::ReorderAcrossSenders,
        "reorder",
        "a share of a link's packets is overtaken by later ones",
        ANYWHERE,
    ),
    entry(
        Fault::Swizzle,
        "swizzle",
        "some links clog one by one, and are freed in another order",
        ANYWHERE,
    ),
    entry(
        Fault::Hang,
        "hang",
        "an actor or a device does nothing, and then goes on where it was",
        ANYWHERE,
    ),
    entry(
        Fault::SlowHandler,
        "slow_handler",
        "each message, or each sample of a device, takes longer by `delay`",
        ANYWHERE,
    ),
    entry(
        Fault::MailboxFull,
        "mailbox_full",
        "a mailbox has no room: its overflow rule acts",
        ANYWHERE,
    ),
    entry(
        Fault::ClockJump,
        "clock_jump",
        "the node's calendar jumps by `by`, forward and back in turn, and then returns",
        ANYWHERE,
    ),
    entry(
        Fault::NodeCrash,
        "node_crash",
        "a node ends at once with all its actors, and starts again",
        NODES,
    ),
    entry(
        Fault::NodePause,
        "node_pause",
        "a node stands still with all its actors",
        NODES,
    ),
    entry(
        Fault::HostDown,
        "host_down",
        "the thread of a shard ends: its cells exit with `host_down`, and the next thread follows",
        ANYWHERE,
    ),
    entry(
        Fault::StartFails,
        "start_fails",
        "an actor is killed, and its next starts fail, `times` at most",
        ANYWHERE,
    ),
    entry(
        Fault::StartHangs,
        "start_hangs",
        "an actor is killed, and its start does not end",
        ANYWHERE,
    ),
    entry(
        Fault::DeviceLies,
        "device_lies",
        "a `share` of a device's values is wrong: no number, zero, or far off",
        DEVICES,
    ),
];

const fn entry(
    fault: Fault,
    name: &'static str,
    what: &'static str,
    why_not: [Option<&'static str>; 3],
) -> Entry {
    Entry {
        fault,
        name,
        what,
        why_not,
    }
}

impl Entry {
    /// Why the fault cannot act there; `None` if it can.
    #[must_use]
    pub const fn why_not(&self, place: Place) -> Option<&'static str> {
        self.why_not[place as usize]
    }
}

impl Fault {
    /// Its row of the vocabulary.
    ///
    /// # Panics
    /// Never: a test finds each fault in the vocabulary.
    #[must_use]
    pub fn entry(self) -> &'static Entry {
        FAULTS
            .iter()
            .find(|entry| entry.fault == self)
            .expect("each fault is in the vocabulary")
    }

    /// Its name in a plan.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Whether it goes on for a time and is healed then.
    #[must_use]
    pub const fn lasts(self) -> bool {
        !matches!(
            self,
            Self::Kill | Self::Stop | Self::Panic | Self::ErrorReturn
        )
    }

    /// Whether it befalls a node as a whole.
    #[must_use]
    pub const fn hits_node(self) -> bool {
        matches!(self, Self::ClockJump | Self::NodeCrash | Self::NodePause)
    }

    /// Whether it befalls the shards of a node.
    #[must_use]
    pub const fn hits_shard(self) -> bool {
        matches!(self, Self::HostDown)
    }

    /// Whether any task actor can be hit, whatever it does.
    #[must_use]
    pub const fn hits_any_actor(self) -> bool {
        matches!(
            self,
            Self::Kill
                | Self::Stop
                | Self::Panic
                | Self::ErrorReturn
                | Self::Hang
                | Self::SlowHandler
                | Self::MailboxFull
                | Self::StartFails
                | Self::StartHangs
        )
    }

    /// Whether it befalls the packets of a link.
    #[must_use]
    pub const fn hits_link(self) -> bool {
        matches!(
            self,
            Self::Partition
                | Self::Clog
                | Self::DropMsg
                | Self::DupMsg
                | Self::DelayMsg
                | Self::ReorderAcrossSenders
                | Self::Swizzle
        )
    }

    /// Whether it strikes several, one after the other.
    #[must_use]
    pub const fn hits_several(self) -> bool {
        matches!(self, Self::Swizzle)
    }

    /// Whether it may stop the packets of one way alone.
    #[must_use]
    pub const fn has_way(self) -> bool {
        matches!(self, Self::Partition | Self::Clog | Self::Swizzle)
    }

    /// Whether it is about a share: of packets, or of values.
    #[must_use]
    pub const fn has_share(self) -> bool {
        matches!(
            self,
            Self::DropMsg | Self::DupMsg | Self::ReorderAcrossSenders | Self::DeviceLies
        )
    }

    /// Whether something takes longer.
    #[must_use]
    pub const fn has_delay(self) -> bool {
        matches!(
            self,
            Self::DelayMsg | Self::ReorderAcrossSenders | Self::SlowHandler
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The vocabulary as a table, for the reference page.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "| fault | what it does | in a test | in `sim` | live |\n|---|---|---|---|---|\n",
    );
    for entry in &FAULTS {
        let can = |place| {
            if entry.why_not(place).is_none() {
                "yes"
            } else {
                "no"
            }
        };
        text += &format!(
            "| `{}` | {} | {} | {} | {} |\n",
            entry.name,
            entry.what,
            can(Place::Test),
            can(Place::Sim),
            can(Place::Live)
        );
    }
    text
}
