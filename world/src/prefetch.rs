//! A hint to the processor that an element of a table is used soon.
//!
//! It changes nothing that a program can see but time. Bound: one instruction.

/// Elements ahead of their use: enough to hide a miss of all caches behind the work on them.
pub(crate) const AHEAD: usize = 16;

/// Rows above which a table does not stay in the caches of one core, so that hints pay.
pub(crate) const LARGE: usize = 32_768;

/// Fetches the cache line of element `at`, if there is one.
#[inline(always)]
pub(crate) fn prefetch<T>(table: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(element) = table.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "the hint takes a pointer")]
        // SAFETY: the hint belongs to SSE, which every x86_64 has; it neither reads nor writes in
        // the sense of the language, and the pointer is that of a live element.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>((&raw const *element).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (table, at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_beyond_the_table_is_none_and_one_within_changes_nothing() {
        let table = [1_u64, 2, 3];
        for at in [0, 2, 3, usize::MAX] {
            prefetch(&table, at);
        }
        prefetch::<u64>(&[], 0);
        assert_eq!(table, [1, 2, 3]);
    }
}
