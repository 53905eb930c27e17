//! What a script may use: enough for any scenario, too little to harm its host.
//!
//! Numbers only.

/// Operations of a whole run: about a second of one core. Tests wait for a tenth of that.
pub const OPERATIONS_MAX: u64 = if cfg!(test) { 500_000 } else { 5_000_000 };
/// Calls within calls.
pub const CALL_LEVELS_MAX: usize = 16;
/// Depth of one expression, at the top and in functions.
pub const EXPRESSION_DEPTH_MAX: usize = 48;
/// Variables of one function.
pub const VARIABLES_MAX: usize = 64;
/// Functions of one script.
pub const FUNCTIONS_MAX: usize = 64;
/// Bytes of all texts in one value.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Entries of all lists in one value; devices are one value, however many.
pub const ENTRIES_MAX: usize = 4_096;
/// Bytes that a script may make its process larger by, all in all. The limits of one value leave
/// the keys of maps out.
pub const MEMORY_BYTES_MAX: i64 = 256 << 20;
/// Operations between two looks at that: lists and texts of some tens of megabytes.
pub const MEMORY_LOOK_OPERATIONS: u64 = 1_024;
/// Bytes of the stack of a script's thread: values may be nested as deep as they have entries, and
/// are dropped, shown and measured one call a level.
pub const STACK_BYTES: usize = 256 << 20;
/// Depth of a value that is part of a command.
pub const DEPTH_MAX: usize = 32;
/// Bytes of a script's file.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// Expectations of one run.
pub const EXPECTATIONS_MAX: usize = 10_000;
/// Lines of a log that the report keeps: the last ones.
pub const LOG_LINES_KEPT: usize = 256;
/// Bytes of one line of the log.
pub const LOG_LINE_BYTES_MAX: usize = 1_000;
/// Questions to the host, waits among them.
pub const QUESTIONS_MAX: u64 = 1_000_000;
