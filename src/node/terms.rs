//! TLS towards brokers and servers, out of the node's configuration: whom to trust, what to show.
//!
//! It reads files and makes the site authority if that is asked for and absent. Bound: the files'.

use std::sync::Arc;

use actorsim_fleet::broker::Target;
use actorsim_fleet::session::tls::Terms;
use actorsim_transport::Site;
use actorsim_transport::certs::identity::CA_FILE;
use actorsim_transport::certs::stream;

use super::StartError;
use super::build::config_error;
use crate::config::NodeConfig;
use crate::config::target::TlsTarget;

/// Terms of connections to a broker or server, if its URL asks for TLS.
pub(crate) fn terms_of(
    config: &NodeConfig,
    peer: &Target,
    tls: &TlsTarget,
) -> Result<Option<Terms>, StartError> {
    if !peer.tls {
        return Ok(None);
    }
    let keys = tls.keys;
    let site = || {
        Site::open_or_create(&config.transport.site).map_err(|error| StartError::Layer {
            layer: "site authority",
            reason: error.to_string(),
        })
    };
    let roots = match &tls.ca_file {
        Some(file) => stream::roots(file),
        None => stream::roots(&site()?.dir().join(CA_FILE)),
    };
    let roots = roots.map_err(|error| config_error(keys.ca_file, error))?;
    let shown = tls.shown.as_ref().map(|(cert, key)| {
        let shown = stream::certified(cert, key);
        shown.map_err(|error| config_error(keys.cert_file, error))
    });
    let client = stream::stream_client(roots, shown.transpose()?);
    let client = client.map_err(|error| config_error(keys.url, error))?;
    let name = tls.server_name.as_deref().unwrap_or(peer.name());
    let terms = Terms::new(client, name);
    let terms = terms.map_err(|error| config_error(keys.server_name, error))?;
    Ok(Some(match tls.device_certs {
        true => terms.per_device(Arc::new(site()?)),
        false => terms,
    }))
}
