//! The token of a node: who can read its state directory may act on it over HTTP.
//!
//! It lies in the file `token` of the state directory, mode 0600, and is made on first start.
//! Memory holds only its hash, and no log, answer or event ever holds it. It is changed by
//! [`Token::rotate`]; the former one is refused from then on. Bound: [`LENGTH`] characters.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

/// Characters of a token: 256 bits in hexadecimal digits.
pub const LENGTH: usize = 64;

/// Bytes of the file that are read: a token, a line break, and one more to see what is too long.
const FILE_MAX: u64 = LENGTH as u64 + 2;

type Hash = [u8; 32];

/// A token, as its hash. Clones are one.
#[derive(Clone)]
pub struct Token {
    hash: Arc<RwLock<Hash>>,
    file: PathBuf,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// The one in a file. A file that is missing, no token, or readable for others gets a new one:
    /// who could read the old one is not known.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open_or_create(file: &Path) -> io::Result<Self> {
        let own = match read(file) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let token = Self {
            hash: Arc::default(),
            file: file.to_owned(),
        };
        match own {
            Some(text) => *token.hash.write() = hash(text.as_bytes()),
            None => token.rotate()?,
        }
        Ok(token)
    }

    /// Puts a new one in its place.
    ///
    /// # Errors
    /// Whatever the file system says; the former token is then still good.
    pub fn rotate(&self) -> io::Result<()> {
        let mut random = [0; LENGTH / 2];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut hash_now = self.hash.write();
        let beside = self.file.with_extension("new");
        let _ = fs::remove_file(&beside); // left by a process that died here
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        fs::rename(&beside, &self.file)?;
        *hash_now = hash(text.as_bytes());
        Ok(())
    }

    /// Whether this is the token. It takes the same time for every answer.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        let (given, own) = (hash(given), *self.hash.read());
        let differs = given.iter().zip(own).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(differs) == 0
    }

    /// Where it lies.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// One for tests.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self {
            hash: Arc::new(RwLock::new(hash(text.as_bytes()))),
            file: PathBuf::new(),
        }
    }
}

fn hash(text: &[u8]) -> Hash {
    Sha256::digest(text).into()
}

/// The token in a file that only its owner can read; `None` if it holds none.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = File::open(path)?;
    let private = file.metadata()?.mode() & 0o077 == 0;
    let mut text = String::new();
    match file.take(FILE_MAX).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        Err(error) => return Err(error),
    }
    let token = text.strip_suffix('\n').unwrap_or(&text);
    let good = token.len() == LENGTH && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok((private && good).then(|| token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn text(file: &Path) -> String {
        fs::read_to_string(file).unwrap().trim_end().to_owned()
    }

    #[test]
    fn a_token_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let token = Token::open_or_create(&file).unwrap();
        let own = text(&file);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(token.is(own.as_bytes()));
        for wrong in ["", "0", &own[1..], &own.to_uppercase(), &format!("{own}\n")] {
            assert!(!token.is(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(!format!("{token:?}").contains(&own));
        let again = Token::open_or_create(&file).unwrap();
        assert!(again.is(own.as_bytes()));
    }

    #[test]
    fn a_rotated_token_is_good_at_once_and_the_former_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let token = Token::open_or_create(&dir.path().join("token")).unwrap();
        let (clone, before) = (token.clone(), text(token.file()));
        token.rotate().unwrap();
        assert!(!clone.is(before.as_bytes()));
        assert!(clone.is(text(token.file()).as_bytes()));
    }

    #[test]
    fn what_others_could_read_or_is_no_token_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for (what, mode) in [("ab".repeat(32), 0o644), ("short".into(), 0o600)] {
            fs::write(&file, &what).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let token = Token::open_or_create(&file).unwrap();
            assert!(!token.is(what.as_bytes()));
            assert!(token.is(text(&file).as_bytes()));
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        }
    }
}
