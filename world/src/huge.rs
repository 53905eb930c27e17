//! Large pages for a large table: random rows then cost no walk through the page tables.
//!
//! Asked for after the table is filled and before the scan begins; a refusal costs time, nothing
//! else. Bound: two system calls for a table.

#![expect(
    unsafe_code,
    reason = "madvise takes an address; for these two advices its content stays as it is"
)]

use std::io;

/// Bytes of a large page.
const PAGE: usize = 2 * 1024 * 1024;

/// Brings the whole large pages within `table` together. True if there were any.
///
/// # Errors
/// What the kernel says: none are configured, or too little memory lies together.
pub(crate) fn gather<T>(table: &[T]) -> io::Result<bool> {
    let from = table.as_ptr() as usize;
    let (first, end) = (from.next_multiple_of(PAGE), from + size_of_val(table));
    let length = end.saturating_sub(first) / PAGE * PAGE;
    if length == 0 {
        return Ok(false);
    }
    let place = table
        .as_ptr()
        .cast::<u8>()
        .wrapping_add(first - from)
        .cast_mut();
    for advice in [libc::MADV_HUGEPAGE, libc::MADV_COLLAPSE] {
        // SAFETY: the range lies within a live slice, and both advices change how pages are
        // backed, never what they hold.
        if unsafe { libc::madvise(place.cast(), length, advice) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_holds_stays_and_a_small_one_has_no_large_page() {
        assert_eq!(gather(&[1_u8; 100]).ok(), Some(false));
        let table: Vec<u64> = (0..2_000_000).collect();
        // granted or refused: both are good
        let _ = gather(&table);
        assert!(table.iter().enumerate().all(|(at, n)| at as u64 == *n));
    }
}
