//! The error handler of the schedule: it records the first fault and never unwinds.
//!
//! bevy's handler is a bare function pointer without state, and its name of a system is empty
//! without the debug feature; so the system that was entered last and the first fault are kept in
//! thread-locals of the scan thread. An unwind out of a schedule would leave it half run.
//!
//! Bound: one fault per cycle, the first; the text is cut at [`DETAIL_LEN`] characters.

use std::cell::{Cell, RefCell};

use bevy_ecs::error::{BevyError, ErrorContext};
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

thread_local! {
    static ENTERED: Cell<SystemId> = const { Cell::new(SystemId::Ingest) };
    static FIRST: RefCell<Option<SystemFault>> = const { RefCell::new(None) };
}

/// Notes that `system` runs now on this thread.
#[inline]
pub(super) fn entered(system: SystemId) {
    ENTERED.set(system);
}

/// The handler: keeps the first fault of this thread until [`take_fault`].
pub(crate) fn record(mut error: BevyError, _context: ErrorContext) {
    FIRST.with(|first| {
        // a fault within this handler must not unwind either
        let Ok(mut first) = first.try_borrow_mut() else {
            return;
        };
        if first.is_none() {
            let text = panic_text(&mut error).unwrap_or_else(|| error.to_string());
            let detail: String = text.trim().chars().take(DETAIL_LEN).collect();
            *first = Some(SystemFault {
                system: ENTERED.get(),
                name: ENTERED.get().name(),
                detail: detail.into(),
            });
        }
    });
}

/// The message of a caught panic; `None` for an error that a system returned.
fn panic_text(error: &mut BevyError) -> Option<String> {
    let payload = error.take_payload()?;
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| {
        payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
    })
}

/// Takes the first fault that was recorded on this thread.
pub(crate) fn take_fault() -> Option<SystemFault> {
    FIRST.with(|first| first.try_borrow_mut().ok()?.take())
}
