//! Text files that people and remote clients name: read within a bound.
//!
//! Devices and pipes are refused: one that never ends or never begins would hold up whoever reads
//! it. Bound: the caller's.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

/// The text of a file of at most so many bytes.
///
/// # Errors
/// Whatever the file system says; that it is no regular file, or longer, or no text.
pub fn read(path: &Path, bytes_max: usize) -> io::Result<String> {
    let refused = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    if !fs::metadata(path)?.is_file() {
        return Err(refused("it is no regular file".to_owned()));
    }
    let mut text = String::new();
    let most = bytes_max as u64;
    let length = File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    match length > bytes_max {
        true => Err(refused(format!("it has more than {bytes_max} bytes"))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_never_ends_or_is_too_long_is_not_read() {
        for device in ["/dev/zero", "/dev/null", "/"] {
            let refused = read(Path::new(device), 10).unwrap_err().to_string();
            assert_eq!(refused, "it is no regular file", "{device}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "0123456789").unwrap();
        assert_eq!(read(file.path(), 10).unwrap(), "0123456789");
        let refused = read(file.path(), 9).unwrap_err().to_string();
        assert_eq!(refused, "it has more than 9 bytes");
    }
}
