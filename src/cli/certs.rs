//! `actorsim certs`: the site authority and the certificates it signs.
//!
//! Bound: one authority per site directory.

use std::path::PathBuf;

use clap::Subcommand;

use super::Exit;

/// The `certs` commands.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make the authority of a site, if there is none.
    Init {
        /// Site directory [default: the default node's state directory]
        #[arg(long, value_name = "DIR")]
        site: Option<PathBuf>,
    },
    /// Sign a node's certificate and write ca.pem, node.pem and node.key.
    Issue {
        /// Name of the node
        #[arg(value_name = "NAME")]
        name: String,
        /// Names of the devices it may speak for
        #[arg(long, value_name = "GLOB", default_value = "*")]
        devices: String,
        /// Directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Site directory [default: the default node's state directory]
        #[arg(long, value_name = "DIR")]
        site: Option<PathBuf>,
    },
    /// Show the authority and, of a directory, the identity.
    Show {
        /// Directory [default: the default node's state directory]
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// Runs the command.
pub fn run(command: &CertsCommand) -> Exit {
    let _ = command;
    super::absent("the command `certs`")
}
