//! One step of a cell under `catch_unwind`, the end of what is dropped, and a panic hook that is
//! quiet about both.
//!
//! A panic in a cell is a fault like any other: it is counted and reported by the supervisor's
//! side, so the default hook must not print a million backtraces. A panic in the destructor of what
//! is discarded (a message of an actor that died) is nobody's fault any more: it is counted. The
//! hook is installed once per process, does nothing on threads that are not inside a step or a
//! discard, and hands everything else to the hook that was there.

use std::any::Any;
use std::cell::Cell;
use std::mem::needs_drop;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::exit::{Fault, Flow, PANIC};

thread_local! {
    static IN_STEP: Cell<bool> = const { Cell::new(false) };
}

/// Destructors that panicked in [`discard`]; of the process, as the hook is.
static DESTRUCTOR_PANICS: AtomicU64 = AtomicU64::new(0);

/// Puts the quiet hook in front of the present one, once per process.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    if std::thread::panicking() {
        return; // a hook cannot be set while it is needed
    }
    INSTALLED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IN_STEP.get() {
                before(info);
            }
        }));
    });
}

/// Runs one step; a panic becomes a fault. The caller undoes what the step wrote.
pub(crate) fn step<R>(run: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    let outer = IN_STEP.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    IN_STEP.set(outer);
    result.unwrap_or_else(|payload| Err(caught(payload)))
}

/// A step has faulted; the fault was put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Faulted;

/// Runs one step of a cell. A fault is put aside, so that the usual end is a value in a register.
///
/// Inlined, into loops that are not: unwinding reads the table of the catching function twice from
/// its beginning, so that a panic pays for every call site of a large one.
#[inline]
pub(crate) fn flow(
    aside: &mut Option<Fault>,
    run: impl FnOnce() -> Result<Flow, Fault>,
) -> Result<Flow, Faulted> {
    let outer = IN_STEP.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| match run() {
        Ok(flow) => Ok(flow),
        Err(fault) => {
            *aside = Some(fault);
            Err(Faulted)
        }
    }));
    IN_STEP.set(outer);
    result.unwrap_or_else(|payload| {
        *aside = Some(caught(payload));
        Err(Faulted)
    })
}

/// Drops what a program has made; a panic in its destructor ends here, and is counted. False if
/// there was one.
pub(crate) fn discard<T>(value: T) -> bool {
    if !needs_drop::<T>() {
        return true;
    }
    let dropped = step(move || {
        drop(value);
        Ok(())
    });
    if dropped.is_err() {
        DESTRUCTOR_PANICS.fetch_add(1, Ordering::Relaxed);
    }
    dropped.is_ok()
}

/// How many destructors have panicked in this process when mailboxes, queues and actors dropped
/// what programs had made: messages that nobody takes any more, answers that come too late, cells
/// that have ended. Nothing is told of them but this number; each ended by itself, and kept nobody
/// else from its end. One that panics in a handler is that handler's fault, and not counted here.
#[must_use]
pub fn destructor_panics() -> u64 {
    DESTRUCTOR_PANICS.load(Ordering::Relaxed)
}

#[cold]
fn caught(payload: Box<dyn Any + Send>) -> Fault {
    let fault = Fault::from_panic(&*payload);
    debug_assert_eq!(fault.code, PANIC);
    // A payload is any value, so its destructor may panic too; that one's payload is leaked.
    let outer = IN_STEP.replace(true);
    if let Err(second) = panic::catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(second);
    }
    IN_STEP.set(outer);
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Grenade;
    impl Drop for Grenade {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }

    #[test]
    fn a_panic_becomes_a_fault_with_its_text() {
        install();
        let fault = step::<()>(|| panic!("value {}", 7)).unwrap_err();
        assert_eq!(
            (fault.code, fault.detail.as_deref()),
            (PANIC, Some("value 7"))
        );
        assert_eq!(step(|| Ok(3)), Ok(3));
    }

    #[test]
    fn destructors_that_panic_are_swallowed_also_in_payloads() {
        install();
        let before = destructor_panics();
        assert!(!discard(Grenade));
        assert!(destructor_panics() > before, "it is counted");
        assert!(discard(1));
        let fault = step::<()>(|| panic::panic_any(Grenade)).unwrap_err();
        assert_eq!(fault.detail, None);
    }
}
