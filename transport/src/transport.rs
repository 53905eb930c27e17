//! Assembly: what all transport actors share, and the subtree they form.
//!
//! [`Transport::open`] binds the sockets, so that a port in use is told before anything starts;
//! [`Transport::child`] is the `/transport` subtree. It handles no traffic itself. Bounds: those of
//! its parts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use actorsim_actors::{ActorPath, Addr, MailboxSpec, Overflow, System};
use actorsim_supervision::{ChildSpec, Policies, Strategy, SupervisorRef, SupervisorSpec};
use parking_lot::Mutex;
use quinn::Endpoint;
use rustls_pki_types::CertificateDer;
use tokio::runtime::Handle;

use crate::batch::{Batch, BatchPool};
use crate::certs::{CertError, Identity, Revocations};
use crate::command::T3Message;
use crate::endpoint::{BindError, Listening, codes, listen, server_config, until_free};
use crate::ingest::Inlets;
use crate::limits::{Limits, Places, Quotas};
use crate::listener::{Folded, Listener, ListenerMessage};
use crate::network::Network;
use crate::registry::Registry;
use crate::session::Sessions;
use crate::stats::TransportStats;
use crate::tiers::{T2Message, TierT1, TierT2, TierT3, t1_mailbox, t2_mailbox, t3_mailbox};
use crate::trust;

/// Listeners whose connections carry everything.
const SHARED: &[Listening] = &[Listening::Main, Listening::Plain];

/// How a node listens.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// This node's name, told to links.
    pub node: String,
    /// Where `actorsim/1` and `dt/1` are served.
    pub listen: SocketAddr,
    /// Where peers that offer no ALPN are served, if anywhere.
    pub plain: Option<SocketAddr>,
    /// Where links take commands over connections of their own, if anywhere: at the address of
    /// `listen`.
    pub commands: Option<CommandsConfig>,
    /// This node's certificate, and the authority it trusts.
    pub identity: Identity,
    /// Where datagrams travel.
    pub network: Network,
    /// What peers may take.
    pub limits: Limits,
}

/// What carries commands beside telemetry, so that they wait for none of it.
#[derive(Clone, Debug)]
pub struct CommandsConfig {
    /// Port of their connections; 0 is a free one. Links are told which.
    pub port: u16,
    /// Runtime of these connections and of tier T3.
    pub runtime: Handle,
}

/// What is said seldom.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) foreign: Folded,
    pub(crate) full: Folded,
    pub(crate) failed: Folded,
    /// Beyond what one connection may register.
    pub(crate) devices: Folded,
    pub(crate) displaced: Folded,
}

/// What the transport's actors share, and what outlives each of them.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) node: String,
    pub(crate) stats: Arc<TransportStats>,
    pub(crate) pool: Arc<BatchPool>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) inlets: Inlets,
    pub(crate) t1: Addr<Batch>,
    pub(crate) t2: Addr<T2Message>,
    pub(crate) t3: Addr<T3Message>,
    pub(crate) conns: SupervisorRef,
    pub(crate) conn_path: ActorPath,
    pub(crate) said: Said,
    pub(crate) limits: Limits,
    places: Arc<Places>,
    /// Of connections for commands.
    places_beside: Arc<Places>,
    pub(crate) quotas: Quotas,
    listener: Addr<ListenerMessage>,
    commands: Option<(Addr<ListenerMessage>, Handle)>,
    conn_supervisor: SupervisorSpec,
    identity: Identity,
    network: Network,
    addrs: BTreeMap<Listening, SocketAddr>,
    endpoints: Mutex<BTreeMap<Listening, Endpoint>>,
}

impl Core {
    /// The endpoint of a listener, bound if it is not yet; `None` if it is not configured.
    pub(crate) fn listening(
        &self,
        which: Listening,
        handle: &Handle,
    ) -> Result<Option<Endpoint>, BindError> {
        let Some(addr) = self.addrs.get(&which) else {
            return Ok(None);
        };
        let mut endpoints = self.endpoints.lock();
        if let Some(endpoint) = endpoints.get(&which) {
            return Ok(Some(endpoint.clone()));
        }
        let endpoint = listen(handle, *addr, which, &self.identity, &self.network)?;
        endpoints.insert(which, endpoint.clone());
        Ok(Some(endpoint))
    }

    /// Certificates have been taken back: no new connection with one of them, and none that is up.
    /// Returns how many were closed.
    pub(crate) fn revoke(&self, revoked: &Revocations) -> Result<usize, CertError> {
        for (which, endpoint) in &*self.endpoints.lock() {
            if let Some(addr) = self.addrs.get(which) {
                let config = server_config(*addr, *which, &self.identity, revoked, &self.network)?;
                endpoint.set_server_config(Some(config));
            }
        }
        Ok(self.registry.close_revoked(revoked))
    }

    /// Whether a certificate is this node's own, as its own fleet shows it.
    pub(crate) fn is_own(&self, shown: &CertificateDer<'_>) -> bool {
        self.identity.chain().first() == Some(shown)
    }

    /// The connections that are counted together with those of a listener.
    pub(crate) const fn places(&self, which: Listening) -> &Arc<Places> {
        match which {
            Listening::Main | Listening::Plain => &self.places,
            Listening::Commands => &self.places_beside,
        }
    }

    /// Whether the peer's certificate is taken back by now.
    pub(crate) fn has_revoked(&self, quic: &quinn::Connection) -> bool {
        trust::names(&self.identity.revocations(), quic)
    }

    /// The certificates that are taken back by now.
    pub(crate) fn revocations(&self, system: &System) -> Arc<Revocations> {
        trust::list(&self.identity, system)
    }

    /// The port of connections for commands, where there are such.
    pub(crate) fn commands_port(&self) -> Option<u16> {
        let endpoints = self.endpoints.lock();
        let at = endpoints.get(&Listening::Commands)?.local_addr().ok()?;
        Some(at.port())
    }

    /// The endpoint of a listener works no more: it is bound again when it is next asked for.
    pub(crate) fn forget(&self, which: Listening) {
        self.endpoints.lock().remove(&which);
    }
}

/// The listening side of a node.
#[derive(Clone, Debug)]
pub struct Transport(Arc<Core>);

impl Transport {
    /// Binds the sockets on the system's runtime and prepares the actors. `inlets` are where
    /// batches and registrations go; `policies` say how the subtree is supervised.
    ///
    /// # Errors
    /// [`BindError`], before anything has started.
    pub fn open(
        system: &System,
        config: TransportConfig,
        inlets: Inlets,
        stats: Arc<TransportStats>,
        policies: &Policies,
    ) -> Result<Self, BindError> {
        let path = ActorPath::root().join("transport");
        let conn_path = path.join("conn");
        let conn_supervisor = SupervisorSpec::new(conn_path.clone(), Default::default())
            .needs(Strategy::SimpleOneForOne)
            .configured(policies);
        let mut addrs = BTreeMap::from([(Listening::Main, config.listen)]);
        addrs.extend(config.plain.map(|addr| (Listening::Plain, addr)));
        if let Some(commands) = &config.commands {
            let at = SocketAddr::new(config.listen.ip(), commands.port);
            addrs.insert(Listening::Commands, at);
        }
        let listener = |name| Addr::new(path.join(name), MailboxSpec::new(1, Overflow::Reject));
        let commands = config.commands.map(|commands| commands.runtime);
        let core = Core {
            node: config.node,
            pool: BatchPool::new(Arc::clone(&stats)),
            stats,
            sessions: Sessions::new(),
            registry: Registry::new(),
            inlets,
            t1: Addr::new(path.join("tier-t1"), t1_mailbox()),
            t2: Addr::new(path.join("tier-t2"), t2_mailbox()),
            t3: Addr::new(path.join("tier-t3"), t3_mailbox()),
            conns: conn_supervisor.reference(),
            conn_path,
            said: Said {
                foreign: Folded::new("foreign_certificate"),
                full: Folded::new("connection_refused"),
                failed: Folded::new("handshake_failed"),
                devices: Folded::new("devices_refused"),
                displaced: Folded::new("connection_displaced"),
            },
            listener: listener("listener"),
            commands: commands.map(|runtime| (listener("listener-commands"), runtime)),
            limits: config.limits,
            places: Places::new(config.limits),
            places_beside: Places::new(config.limits),
            quotas: Quotas::new(config.limits.devices),
            conn_supervisor,
            identity: config.identity,
            network: config.network,
            addrs,
            endpoints: Mutex::default(),
        };
        for which in SHARED {
            core.listening(*which, system.handle())?;
        }
        if let Some((_, runtime)) = &core.commands {
            core.listening(Listening::Commands, runtime)?;
        }
        Ok(Self(Arc::new(core)))
    }

    /// The `/transport` subtree: the tiers, the connections' supervisor, the listener.
    #[must_use]
    pub fn child(&self, policies: &Policies) -> ChildSpec {
        let core = &self.0;
        let world = core.inlets.readings.clone();
        let t1 = move || TierT1 {
            world: world.clone(),
        };
        let events = core.inlets.events.clone();
        let t2 = move || TierT2 {
            events: events.clone(),
        };
        let (registry, stats) = (Arc::clone(&core.registry), Arc::clone(&core.stats));
        let t3 = move || TierT3::new(Arc::clone(&registry), Arc::clone(&stats));
        let listener = |at| {
            let core = Arc::clone(core);
            move || Listener {
                core: Arc::clone(&core),
                at,
            }
        };
        let mut t3 = ChildSpec::task("tier-t3", &core.t3, t3);
        if let Some((_, runtime)) = &core.commands {
            t3 = t3.on_runtime(runtime.clone());
        }
        let mut spec = SupervisorSpec::new(ActorPath::root().join("transport"), Default::default())
            .child(ChildSpec::task("tier-t1", &core.t1, t1))
            .child(ChildSpec::task("tier-t2", &core.t2, t2))
            .child(t3)
            .child(ChildSpec::supervisor("conn", core.conn_supervisor.clone()))
            .child(ChildSpec::task(
                "listener",
                &core.listener,
                listener(SHARED),
            ));
        if let Some((addr, runtime)) = &core.commands {
            let child =
                ChildSpec::task("listener-commands", addr, listener(&[Listening::Commands]));
            spec = spec.child(child.on_runtime(runtime.clone()));
        }
        ChildSpec::supervisor("transport", spec.configured(policies))
    }

    /// Where a listener really listens (a port 0 asked for is a real one here).
    #[must_use]
    pub fn local_addr(&self, which: Listening) -> Option<SocketAddr> {
        self.0.endpoints.lock().get(&which)?.local_addr().ok()
    }

    /// Tier T3, for commands out of the world.
    #[must_use]
    pub fn t3(&self) -> &Addr<T3Message> {
        &self.0.t3
    }

    /// The T2 ledgers; `wake` them after events were made durable.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.0.sessions
    }

    /// Devices and connections.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<TransportStats> {
        &self.0.stats
    }

    /// Closes the sockets in order, after the subtree has stopped; the ports are free when it
    /// returns.
    pub async fn close(&self) {
        let endpoints = std::mem::take(&mut *self.0.endpoints.lock());
        for endpoint in endpoints.into_values() {
            endpoint.close(codes::STOPPED, b"the node stops");
            endpoint.wait_idle().await;
            let addr = endpoint.local_addr();
            drop(endpoint);
            if let (Ok(addr), false) = (addr, self.0.network.is_simulated()) {
                until_free(addr).await;
            }
        }
    }
}

/// The `/transport` subtree of a node: see [`Transport::child`].
#[must_use]
pub fn transport_children(transport: &Transport, policies: &Policies) -> ChildSpec {
    transport.child(policies)
}
