//! `actorsim attach`: the prompt, or commands from `-c`, a file or a pipe.
//!
//! Bound: as [`crate::attach::client`].

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::PathBuf;

use clap::Args;

use super::Exit;
use crate::attach::client::{self, Client};
use crate::attach::output::Format;
use crate::attach::{parse, repl};

/// Shown below the flags.
pub const AFTER_HELP: &str = "\
ADDR is a node's name, its state directory or its socket; without it, the only running node.

Examples:
  actorsim attach                      a prompt
  actorsim attach -c tree -c 'kill /transport/tier-t1' -c tree
  actorsim attach -c 'ps /fleet/*' -o json
  echo health | actorsim attach

Exit codes: 0 done, 1 a command failed, 2 usage or refused, 3 cannot connect, 4 timed out.";

/// Flags of `attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Node to attach to
    #[arg(value_name = "ADDR")]
    address: Option<String>,
    /// Run this command and leave; repeatable
    #[arg(short = 'c', value_name = "CMD")]
    command: Vec<String>,
    /// Run the commands of this file (`-` is stdin) and leave
    #[arg(short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Form of the answers [default: table on a terminal, tsv on a pipe]
    #[arg(short = 'o', value_name = "FORMAT", value_enum)]
    output: Option<Format>,
    /// Attach to the node of that name
    #[arg(long, value_name = "NAME", conflicts_with = "address")]
    node: Option<String>,
    /// Attach to the node with that state directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["address", "node"])]
    state_dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &AttachArgs) -> Exit {
    let default = if io::stdout().is_terminal() {
        Format::Table
    } else {
        Format::Tsv
    };
    let format = args.output.unwrap_or(default);
    // A line that cannot be right is refused before anything is sent.
    for line in &args.command {
        if let Err(message) = parse::parse(line) {
            eprintln!("error: {message}");
            return Exit::Usage;
        }
    }
    let mut client = match connect(args) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("error: {error}");
            return error.exit();
        }
    };
    if !args.command.is_empty() {
        let lines = args.command.iter().cloned().map(Ok);
        return repl::run_lines(&mut client, lines, format);
    }
    match &args.file {
        None => repl::from_stdin(client, format),
        Some(path) if path.as_os_str() == "-" => {
            repl::run_lines(&mut client, io::stdin().lock().lines(), format)
        }
        Some(path) => match File::open(path) {
            Ok(file) => repl::run_lines(&mut client, BufReader::new(file).lines(), format),
            Err(error) => {
                eprintln!("error: {}: {error}", path.display());
                Exit::Usage
            }
        },
    }
}

fn connect(args: &AttachArgs) -> Result<Client, client::AttachError> {
    let socket = match (&args.state_dir, &args.node) {
        (Some(directory), _) => directory.join(crate::state_dir::SOCKET),
        (None, Some(name)) => crate::state_dir::default_path(name).join(crate::state_dir::SOCKET),
        (None, None) => client::locate(args.address.as_deref())?,
    };
    Client::connect(&socket)
}
