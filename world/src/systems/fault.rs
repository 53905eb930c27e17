//! What is told of a system that failed.
//!
//! Bound: the text is cut at [`DETAIL_LEN`] characters.

use std::any::Any;

use thiserror::Error;

use super::SystemId;

/// Characters of a fault's text that are kept.
const DETAIL_LEN: usize = 240;

/// A system returned an error or panicked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("system {name} failed: {detail}")]
pub struct SystemFault {
    /// The system.
    pub system: SystemId,
    /// Its name.
    pub name: &'static str,
    /// Its first error.
    pub detail: Box<str>,
}

impl SystemFault {
    /// A system returned an error.
    #[cold]
    pub(super) fn new(system: SystemId, text: &str) -> Self {
        let detail: String = text.trim().chars().take(DETAIL_LEN).collect();
        Self {
            system,
            name: system.name(),
            detail: detail.into(),
        }
    }

    /// A system panicked.
    #[cold]
    pub(super) fn of_panic(system: SystemId, payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        Self::new(system, text.unwrap_or("a panic without a text"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_panic_is_kept_as_far_as_there_is_room() {
        let of = |payload: &(dyn Any + Send)| SystemFault::of_panic(SystemId::Export, payload);
        assert_eq!(&*of(&"short").detail, "short");
        assert_eq!(of(&"x".repeat(1_000)).detail.len(), DETAIL_LEN);
        assert_eq!(&*of(&7_u32).detail, "a panic without a text");
        let fault = of(&"torn".to_owned());
        assert_eq!(fault.to_string(), "system export failed: torn");
    }
}
