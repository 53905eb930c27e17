//! Why a message or a question did not get through. Values only.

use std::fmt;

/// Why a message was not accepted; it comes back with the error.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<M> {
    /// No room, by the rule of the mailbox.
    #[error("the mailbox is full")]
    Full(M),
    /// The actor is between two incarnations and its mailbox is not kept.
    #[error("the actor is restarting")]
    Restarting(M),
    /// The actor has ended for good.
    #[error("the actor has ended")]
    Closed(M),
    /// No room came free within the deadline.
    #[error("no room in the mailbox within the deadline")]
    Timeout(M),
}

impl<M> SendError<M> {
    /// The message that was not sent.
    pub fn into_message(self) -> M {
        match self {
            Self::Full(m) | Self::Restarting(m) | Self::Closed(m) | Self::Timeout(m) => m,
        }
    }

    const fn label(&self) -> &'static str {
        match self {
            Self::Full(_) => "Full",
            Self::Restarting(_) => "Restarting",
            Self::Closed(_) => "Closed",
            Self::Timeout(_) => "Timeout",
        }
    }
}

impl<M> fmt::Debug for SendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No room in the mailbox.
    #[error("the mailbox is full")]
    Full,
    /// The actor is between two incarnations.
    #[error("the actor is restarting")]
    Restarting,
    /// The actor has ended.
    #[error("the actor has ended")]
    Closed,
    /// No answer within the deadline.
    #[error("no answer within the deadline")]
    Timeout,
    /// The actor dropped the question.
    #[error("the actor dropped the question without an answer")]
    Canceled,
}
