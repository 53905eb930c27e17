//! A twin whose process was killed, as its peers see it.

use std::net::SocketAddr;
use std::time::Duration;

use actorsim_transport::endpoint::{self, Listening, Protocol};
use actorsim_transport::{Identity, Network, SITE_SERVER_NAME, Site};
use quinn::{ConnectionError, Endpoint};
use tokio::runtime::{Builder, Runtime};

/// A twin's process, as far as a peer is concerned: a runtime that ends without a word.
struct Process {
    runtime: Runtime,
    endpoint: Endpoint,
}

impl Process {
    fn start(at: SocketAddr, identity: &Identity) -> Self {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let (handle, network) = (runtime.handle(), Network::Udp);
        let endpoint = endpoint::listen(handle, at, Listening::Main, identity, &network).unwrap();
        let accepting = endpoint.clone();
        runtime.spawn(async move {
            let mut held = Vec::new();
            while let Some(incoming) = accepting.accept().await {
                held.push(incoming.await);
            }
        });
        Self { runtime, endpoint }
    }

    /// Nothing is said to anybody.
    async fn kill(self) {
        let Self { runtime, endpoint } = self;
        // Its tasks first, so that the last handle finds nobody to say goodbye for it.
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)))
            .await
            .unwrap();
        drop(endpoint);
    }
}

#[tokio::test]
async fn a_twin_that_was_killed_and_started_again_says_at_once_that_it_remembers_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::open_or_create(&dir.path().join("site")).unwrap();
    let identity = |name: &str| site.identity(name, "*", &dir.path().join(name)).unwrap();
    // an address of its own: nobody else takes its port while it is away
    let twin = Process::start(([127, 0, 0, 44], 0).into(), &identity("twin"));
    let at = twin.endpoint.local_addr().unwrap();
    let handle = tokio::runtime::Handle::current();
    let link = identity("link");
    let dialler =
        endpoint::dialler(&handle, at, &link, Protocol::Actorsim1, &Network::Udp).unwrap();
    let connecting = dialler.connect(at, SITE_SERVER_NAME).unwrap();
    let connection = connecting.await.unwrap();
    twin.kill().await;
    assert_eq!(connection.close_reason(), None, "it was not told");
    let again = Process::start(at, &identity("twin"));
    connection.send_datagram(vec![0; 39].into()).unwrap();
    assert_eq!(connection.closed().await, ConnectionError::Reset);
    again.kill().await;
}
