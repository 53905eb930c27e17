//! One step of a cell under `catch_unwind`, and a panic hook that is quiet for cells.
//!
//! A panic in a cell is a fault like any other: it is counted and reported by the supervisor's
//! side, so the default hook must not print a million backtraces. The hook is installed once per
//! process, does nothing on threads that are not inside a step, and hands everything else to the
//! hook that was there.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::exit::{Fault, Flow, PANIC};

thread_local! {
    static IN_STEP: Cell<bool> = const { Cell::new(false) };
}

/// Puts the quiet hook in front of the present one, once per process.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
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

/// Drops what belongs to a cell; a panic in its destructor is swallowed. False if there was one.
pub(crate) fn discard<T>(value: T) -> bool {
    step(move || {
        drop(value);
        Ok(())
    })
    .is_ok()
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
        assert!(!discard(Grenade));
        assert!(discard(1));
        let fault = step::<()>(|| panic::panic_any(Grenade)).unwrap_err();
        assert_eq!(fault.detail, None);
    }
}
