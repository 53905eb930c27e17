//! From the command line to a process for each target, and to what they found.
//!
//! libFuzzer is the process: it crashes with what it finds. So each target runs in a process of its
//! own, with its first inputs in a folder and what libFuzzer says in a file; what it leaves behind
//! is shown as the command that gives it to the target again. Bound: `--seconds` a target, of its
//! own time.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};
use std::thread;

use crate::scratch::Folder;
use crate::targets::{ALL, Target, find};

const USAGE: &str = "\
usage: cargo run -p actorsim-fuzz -- TARGET --hex DIGITS
       cd fuzz && cargo run --features libfuzzer --
           TARGET...|all [--seconds N] [--seed N]... [--jobs N] [--corpus DIR]

  --hex DIGITS  one input, once
  --seconds N   time for each target and seed (10)
  --seed N      where libFuzzer's draws begin (1); each target runs once for each
  --jobs N      targets at a time (1)
  --corpus DIR  keep the inputs that are worth it, and begin with those of the last time
";

/// In a process that fuzzes: which target.
const CHILD: &str = "ACTORSIM_FUZZ_TARGET";
/// Seconds for one input.
const INPUT_SECONDS: u32 = 10;
/// Memory of a process, what is not counted by [`crate::heap`] included.
const RSS_MIB: u32 = 2_048;
/// Lines of libFuzzer that are shown of a failure.
const LAST_LINES: usize = 40;

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

/// The target of this process.
#[cfg(all(feature = "libfuzzer", not(test)))]
pub(crate) fn chosen() -> &'static Target {
    CHOSEN
        .get()
        .expect("a process that fuzzes was told its target")
}

/// Called before libFuzzer reads its arguments: goes on if this is a process that fuzzes, and does
/// what the command line says if not.
pub(crate) fn begin() {
    if let Ok(name) = std::env::var(CHILD) {
        let target = find(&name).expect("whoever starts a process knows the targets");
        let _ = CHOSEN.set(target);
        return let_pass();
    }
    let code = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => asked.run(),
        Err(why) => {
            eprint!("{why}\n\n{USAGE}\ntargets:\n{}", list());
            2
        }
    };
    exit(code);
}

/// Nothing is said of panics of a library that is known to panic at its peer, whose user must live
/// with that; any other ends a process that fuzzes.
pub(crate) fn let_pass() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ends = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map_or("", |place| place.file());
            if !place.contains("/amqprs-") && !place.contains("/amqp_serde-") {
                ends(panic);
            }
        }));
    });
}

fn list() -> String {
    let line = |target: &Target| format!("  {:<12} {}\n", target.name, target.about);
    ALL.iter().map(line).collect()
}

/// What the command line says.
struct Asked {
    targets: Vec<&'static Target>,
    seconds: u32,
    seeds: Vec<u32>,
    jobs: usize,
    corpus: Option<PathBuf>,
    hex: Option<Vec<u8>>,
}

impl Asked {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self {
            targets: Vec::new(),
            seconds: 10,
            seeds: Vec::new(),
            jobs: 1,
            corpus: None,
            hex: None,
        };
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                match find(&word) {
                    Some(target) => asked.targets.push(target),
                    None if word == "all" => asked.targets.extend(ALL),
                    None => return Err(format!("there is no target `{word}`")),
                }
                continue;
            }
            let value = words
                .next()
                .ok_or_else(|| format!("{word} takes a value"))?;
            let wrong = || format!("{word} does not take `{value}`");
            match word.as_str() {
                "--seconds" => asked.seconds = value.parse().map_err(|_| wrong())?,
                "--seed" => asked.seeds.push(value.parse().map_err(|_| wrong())?),
                "--jobs" => asked.jobs = value.parse().map_err(|_| wrong())?,
                "--corpus" => asked.corpus = Some(value.into()),
                "--hex" => asked.hex = Some(bytes(&value).ok_or_else(wrong)?),
                _ => return Err(format!("there is no flag `{word}`")),
            }
        }
        if asked.targets.is_empty() {
            return Err("which target?".to_owned());
        }
        if asked.seeds.is_empty() {
            asked.seeds.push(1);
        }
        Ok(asked)
    }

    /// Does it; returns the exit code.
    fn run(self) -> i32 {
        if let Some(input) = &self.hex {
            let_pass();
            self.targets.iter().for_each(|target| target.take(input));
            println!("nothing is wrong with it");
            return 0;
        }
        if !cfg!(feature = "libfuzzer") {
            eprint!("built without libFuzzer\n\n{USAGE}");
            return 2;
        }
        let every = self.targets.iter().flat_map(|target| {
            let seeds = self.seeds.iter();
            seeds.map(move |seed| (*target, *seed))
        });
        let every: Vec<_> = every.collect();
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..self.jobs.clamp(1, every.len()) {
                scope.spawn(|| {
                    while let Some((target, seed)) = every.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let found = self.fuzz(target, *seed);
                        let found = found.unwrap_or_else(|error| Some(error.to_string()));
                        if let Some(what) = found {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("{}: FAILED with seed {seed}\n{what}", target.name);
                        }
                    }
                });
            }
        });
        i32::from(failed.into_inner() > 0)
    }

    /// Fuzzes one target in a process of its own; returns what it found.
    fn fuzz(&self, target: &Target, seed: u32) -> io::Result<Option<String>> {
        let scratch = Folder::new();
        let corpus = match &self.corpus {
            Some(kept) => kept.join(target.name),
            None => scratch.path().join("corpus"),
        };
        fs::create_dir_all(&corpus)?;
        for (number, input) in (target.seeds)().into_iter().enumerate() {
            fs::write(corpus.join(format!("seed-{number}")), input)?;
        }
        let words = scratch.path().join("words");
        fs::write(&words, dictionary(target.words))?;
        let dictionary = (!target.words.is_empty()).then(|| format!("-dict={}", words.display()));
        let log = scratch.path().join("log");
        let status = Command::new(std::env::current_exe()?)
            .env(CHILD, target.name)
            .env("RUST_BACKTRACE", "1")
            .env("TMPDIR", scratch.path())
            .arg(&corpus)
            .arg(format!("-seed={seed}"))
            .arg(format!("-max_total_time={}", self.seconds))
            .arg(format!("-max_len={}", target.len_max))
            .arg(format!("-timeout={INPUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={RSS_MIB}"))
            .arg(format!(
                "-artifact_prefix={}/found-",
                scratch.path().display()
            ))
            .args(dictionary) // an empty one is refused
            .arg("-print_final_stats=1")
            .stderr(File::create(&log)?)
            .stdout(File::create(scratch.path().join("out"))?)
            .status()?;
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if status.success() {
            println!("{}", summary(target, seed, &said));
            return Ok(None);
        }
        let lines: Vec<_> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        Ok(Some(format!(
            "{last}\n{status}\n{}",
            replays(target, scratch.path())?
        )))
    }
}

/// What a run without findings came to.
fn summary(target: &Target, seed: u32, said: &str) -> String {
    let inputs = said.lines().find_map(|line| {
        let figure = line.strip_prefix("stat::number_of_executed_units:")?;
        Some(figure.trim().to_owned())
    });
    let after = |line: &str, word: &str| {
        let (_, rest) = line.split_once(word)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let covered = said
        .lines()
        .filter_map(|line| after(line, " cov: "))
        .next_back();
    let (inputs, covered) = (inputs.unwrap_or_default(), covered.unwrap_or_default());
    let name = target.name;
    format!("{name}: seed {seed}, {inputs} inputs, {covered} places reached, nothing found")
}

/// The commands that give what was found to the target again.
fn replays(target: &Target, scratch: &Path) -> io::Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(scratch)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(what) = name.strip_prefix("found-") {
            let kind = what.split('-').next().unwrap_or_default();
            let again = replay(target.name, &fs::read(&path)?);
            writeln!(text, "{kind}: {again}").expect("a text takes it");
        }
    }
    Ok(text)
}

/// The command that gives an input to a target.
pub(crate) fn replay(target: &str, input: &[u8]) -> String {
    format!(
        "cargo run -p actorsim-fuzz -- {target} --hex {}",
        hex(input)
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What hexadecimal digits say.
pub(crate) fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| Some(c.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    let (pairs, _) = digits.as_chunks::<2>();
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Words as libFuzzer reads them: quoted, a line each.
fn dictionary(words: &[&str]) -> String {
    let quoted = |word: &&str| {
        let bytes: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("\"{bytes}\"\n")
    };
    words.iter().map(quoted).collect()
}
