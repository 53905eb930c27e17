//! The command line: commands, flags, and what each returns as an exit code.
//!
//! It parses and prints; the work is in the modules it calls. What a layer that is not built yet
//! would need is refused by name (exit code 2), never ignored.
//!
//! Bound: the number of arguments is the operating system's.

pub mod attach;
pub mod certs;
pub mod config;
pub mod doctor;
pub mod reference;
pub mod replay;
pub mod scan;
pub mod scenario;
pub mod sim;
pub mod start;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Exit codes; scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; the verdict is pass.
    Ok,
    /// It ran, and the verdict is fail; or a command failed.
    Failed,
    /// Usage, or a bad configuration; nothing was started.
    Usage,
    /// Cannot connect.
    Unreachable,
    /// Timed out.
    TimedOut,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::TimedOut => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// A million industrial devices and their living digital twin, as one supervised actor system.
#[derive(Debug, Parser)]
#[command(
    name = "actorsim",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node: devices, transport and twin, until a signal or --for.
    #[command(after_help = start::AFTER_HELP)]
    Start(Box<start::StartArgs>),
    /// Run a whole fleet on virtual time: the same flags, the same bytes.
    #[command(after_help = sim::AFTER_HELP)]
    Sim(Box<sim::SimArgs>),
    /// Look into a running node and act on it.
    #[command(after_help = attach::AFTER_HELP)]
    Attach(attach::AttachArgs),
    /// Check, print and explain the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// The site authority and the certificates it signs.
    #[command(subcommand)]
    Certs(certs::CertsCommand),
    /// Measure how well the scan keeps its grid on this host.
    #[command(subcommand)]
    Scan(scan::ScanCommand),
    /// List, check and run scenarios.
    #[command(subcommand)]
    Scenario(scenario::ScenarioCommand),
    /// Play a recording of a simulation to a broker or a twin.
    #[command(after_help = replay::AFTER_HELP)]
    Replay(Box<replay::ReplayArgs>),
    /// Say before a run which limit of this host would bite it.
    #[command(after_help = doctor::AFTER_HELP)]
    Doctor(Box<doctor::DoctorArgs>),
}

/// Runs a command line, program name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Ok,
                _ => Exit::Usage,
            };
        }
    };
    match cli.command {
        Command::Start(args) => start::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Attach(args) => attach::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Certs(command) => certs::run(&command),
        Command::Scan(command) => scan::run(&command),
        Command::Scenario(command) => scenario::run(&command),
        Command::Replay(args) => replay::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    }
}

/// Writes to stdout. A reader that is gone (`| head`) is no panic, but the command has failed.
fn say(text: &str) -> Exit {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Exit::Ok,
        Err(_) => Exit::Failed,
    }
}

/// Writes a line to stderr; if nobody reads there, there is nowhere to say so.
fn warn(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Says that something is not in this build.
fn absent(what: &str) -> Exit {
    eprintln!("error: {what} is not available in this build of actorsim {VERSION}");
    Exit::Usage
}

/// The command line as clap knows it, for the reference page.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}
