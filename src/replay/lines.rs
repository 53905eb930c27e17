//! A recording as lines: each message that is JSON as it is, any other with its topic.
//!
//! Bound: [`BUFFER`] in memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Value as Json, json};

use super::message::Message;
use super::play::{Taker, sleep};

/// Bytes written at once.
const BUFFER: usize = 1 << 16;

/// A file or standard output that is played to.
pub struct LinesTarget {
    to: BufWriter<Box<dyn Write>>,
    printed: u64,
}

impl std::fmt::Debug for LinesTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinesTarget")
            .field("printed", &self.printed)
            .finish_non_exhaustive()
    }
}

impl LinesTarget {
    /// A file; `-` is standard output.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let to: Box<dyn Write> = match path.as_os_str() == "-" {
            true => Box::new(io::stdout()),
            false => Box::new(File::create(path)?),
        };
        Ok(Self {
            to: BufWriter::with_capacity(BUFFER, to),
            printed: 0,
        })
    }

    fn line(&mut self, message: &Message) -> io::Result<()> {
        let payload = &message.payload;
        let object = payload.first() == Some(&b'{') && payload.last() == Some(&b'}');
        if object && !payload.contains(&b'\n') {
            self.to.write_all(payload)?;
        } else {
            let line = match std::str::from_utf8(payload) {
                Ok(text) => json!({ "topic": message.topic, "text": text }),
                Err(_) => {
                    let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                    json!({ "topic": message.topic, "hex": hex })
                }
            };
            write!(self.to, "{line}")?;
        }
        self.to.write_all(b"\n")?;
        self.printed += 1;
        Ok(())
    }
}

fn words(error: io::Error) -> String {
    format!("the lines cannot be written: {error}")
}

impl Taker for LinesTarget {
    async fn give(&mut self, message: &Message) -> Result<(), String> {
        self.line(message).map_err(words)
    }

    /// What was played can be read meanwhile.
    async fn rest(&mut self, until: tokio::time::Instant) -> Result<(), String> {
        self.to.flush().map_err(words)?;
        sleep(until).await
    }

    async fn close(mut self) -> Result<Json, String> {
        self.to.flush().map_err(words)?;
        Ok(json!({ "printed": self.printed }))
    }
}
