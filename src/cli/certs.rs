//! `actorsim certs`: the site authority and the certificates it signs.
//!
//! It only calls the transport layer's [`Site`] and [`Identity`]. Bound: one authority per site.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use actorsim_fleet::Profile;
use actorsim_supervision::config::render_all;
use actorsim_transport::certs::{CertError, Identity, Revocations, Site};
use clap::{Args, Subcommand};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::{Exit, say};
use crate::state_dir;

/// The `certs` commands.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// Make the authority of a site, if there is none.
    Init {
        /// Which site.
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Sign a node: writes ca.pem, node.pem and node.key.
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
        /// Which site.
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Take a certificate back: adds it to the site's revoked.pem, which its nodes read live.
    Revoke {
        /// The node.pem, or the directory it lies in
        #[arg(value_name = "CERT")]
        certificate: PathBuf,
        /// Directories of identities to give the list to
        #[arg(long, value_name = "DIR")]
        to: Vec<PathBuf>,
        /// Which site.
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Write the certificates that devices show with targets.mqtt.tls_device_certs, for brokers
    /// that must know them before: ID.pem and ID.key for each, and ca.pem.
    Devices {
        /// Profile of the devices: a shipped name or a file
        #[arg(long, value_name = "NAME|FILE")]
        profile: String,
        /// How many, counted from 0
        #[arg(long, value_name = "N")]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        devices: u32,
        /// Directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Which site.
        #[command(flatten)]
        site: SiteArgs,
    },
    /// Show the authority, or the identity in a directory.
    Show {
        /// Directory with ca.pem, node.pem and node.key
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
        /// Which site.
        #[command(flatten)]
        site: SiteArgs,
    },
}

/// Which site.
#[derive(Debug, Args)]
pub struct SiteArgs {
    /// Directory of the authority [default: $XDG_STATE_HOME/actorsim/site]
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
    /// Use the authority of the node with this state directory
    #[arg(long, value_name = "DIR", conflicts_with = "site")]
    state_dir: Option<PathBuf>,
}

impl SiteArgs {
    fn path(&self) -> PathBuf {
        match (&self.site, &self.state_dir) {
            (Some(site), _) => site.clone(),
            (None, Some(directory)) => directory.join(state_dir::SITE),
            (None, None) => state_dir::site_path(None),
        }
    }
}

/// Runs the command.
pub fn run(command: &CertsCommand) -> Exit {
    if let CertsCommand::Devices { profile, .. } = command
        && let Err(errors) = Profile::load(profile)
    {
        eprintln!("{}", render_all(&errors));
        return Exit::Usage;
    }
    match certs(command) {
        Ok(text) => say(&text),
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                CertError::Name { .. } | CertError::Glob { .. } => Exit::Usage,
                _ => Exit::Failed,
            }
        }
    }
}

fn certs(command: &CertsCommand) -> Result<String, CertError> {
    match command {
        CertsCommand::Init { site } => authority(&Site::open_or_create(&site.path())?),
        CertsCommand::Issue {
            name,
            devices,
            out,
            site,
        } => {
            let site = Site::open_or_create(&site.path())?;
            site.issue(name, devices, out)?;
            identity(out)
        }
        CertsCommand::Revoke {
            certificate,
            to,
            site,
        } => {
            let site = Site::open_or_create(&site.path())?;
            let path = site.revoke(certificate, to)?;
            let revoked = Revocations::load(&path)?.len();
            Ok(format!("revoked      {revoked} in {}\n", path.display()))
        }
        CertsCommand::Devices {
            profile,
            devices,
            out,
            site,
        } => {
            let Ok(loaded) = Profile::load(profile) else {
                return Ok(String::new()); // said before
            };
            let site = Site::open_or_create(&site.path())?;
            for number in 0..*devices {
                site.issue_device(&loaded.profile.device_id(number), out)?;
            }
            site.write_ca(out)?;
            Ok(format!("{devices} devices in {}\n", out.display()))
        }
        CertsCommand::Show {
            directory: Some(directory),
            ..
        } => identity(directory),
        CertsCommand::Show {
            directory: None,
            site,
        } => {
            let path = site.path();
            if !path.join("ca.pem").exists() {
                return Ok(format!(
                    "no authority in {}: `actorsim certs init` or the first start makes one\n",
                    path.display()
                ));
            }
            authority(&Site::open_or_create(&path)?)
        }
    }
}

fn authority(site: &Site) -> Result<String, CertError> {
    let certificate = CertificateDer::from_pem_slice(site.ca_pem().as_bytes())
        .map_err(|error| CertError::Tls(error.to_string()))?;
    let path = site.dir().display();
    Ok(format!(
        "authority    {path}\nfingerprint  {}\n",
        fingerprint(&certificate)
    ))
}

fn identity(directory: &Path) -> Result<String, CertError> {
    let identity = Identity::load(directory)?;
    let mut text = format!("identity     {}\n", identity.dir().display());
    if let Some(certificate) = identity.chain().first() {
        let _ = writeln!(text, "fingerprint  {}", fingerprint(certificate));
    }
    let devices = identity.devices().unwrap_or_else(|| "none named".into());
    let _ = writeln!(text, "devices      {devices}");
    Ok(text)
}

/// SHA-256 of the certificate, as other tools show it.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(certificate);
    digest
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}
