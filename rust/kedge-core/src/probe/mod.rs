// SPDX-License-Identifier: Apache-2.0
//! Network probes of containers, as the kubelet makes them: HTTP, HTTPS, TCP and gRPC, by ticket.
//!
//! HTTP: 200 to 399 is healthy; redirects are followed on the same host and count as healthy to
//! another (Kubernetes `pkg/probe/http`). A probe of HTTPS does not verify the certificate: it asks
//! whether the container answers, not who it is. gRPC: `grpc.health.v1.Health/Check` without TLS.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::bridge::Inbox;
use crate::runtime::Runtime;
use crate::{Error, Kind, Result};

mod grpc;
mod http;
#[cfg(test)]
mod tests;
mod unverified;

const MAX_PROBES: usize = 256;
const MAX_WAITING: usize = 1024;

/// What to ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// `http`, `https`, `tcp` or `grpc`.
    pub kind: String,
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// HTTP: path and query. gRPC: the service.
    #[serde(default)]
    pub path: String,
    /// HTTP: further headers.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// HTTP: any answer is a good one, as for the hooks of a container's life.
    #[serde(default)]
    pub any_status: bool,
}

/// Ticket, whether it is healthy, what to show if not.
pub type Row = (u64, bool, String);

/// Runs probes; their results come out of the inbox.
pub struct Probes {
    runtime: Runtime,
    inbox: Arc<Inbox<Row>>,
    slots: Arc<Semaphore>,
}

impl Probes {
    /// Probes that run on `runtime`.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        Ok(Self {
            runtime: runtime.clone(),
            inbox: Arc::new(Inbox::new(MAX_WAITING)?),
            slots: Arc::new(Semaphore::new(MAX_PROBES)),
        })
    }

    /// Where results come out.
    pub fn inbox(&self) -> &Inbox<Row> {
        &self.inbox
    }

    /// Starts a probe (JSON of a [`Probe`]); its row comes under `ticket`.
    pub fn start(&self, ticket: u64, probe: &str, timeout: Duration) -> Result<()> {
        let probe: Probe = serde_json::from_str(probe)
            .map_err(|error| Error::new(Kind::Invalid, format!("probe: {error}")))?;
        if self.inbox.is_closed() || self.runtime.is_closed() {
            return Err(Error::new(Kind::Closed, "the prober is closed"));
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let message = format!("{MAX_PROBES} probes are under way already");
            return Err(Error::new(Kind::Runtime, message));
        };
        let inbox = Arc::clone(&self.inbox);
        self.runtime.spawn(async move {
            let result = match tokio::time::timeout(timeout, Box::pin(check(&probe))).await {
                Ok(result) => result,
                Err(_) => Err(format!("no answer within {} s", timeout.as_secs_f32())),
            };
            let (healthy, text) =
                result.map_or_else(|text| (false, text), |()| (true, String::new()));
            inbox.push_unbounded((ticket, healthy, text));
            drop(slot);
        });
        Ok(())
    }

    /// Refuses further probes.
    pub fn close(&self) {
        self.inbox.close();
    }
}

type Checked = std::result::Result<(), String>;

async fn check(probe: &Probe) -> Checked {
    match probe.kind.as_str() {
        "tcp" => connect(&probe.host, probe.port).await.map(drop),
        "http" | "https" => http::check(probe).await,
        "grpc" => grpc::check(probe).await,
        other => Err(format!("probe: wanted http, https, tcp or grpc, got: {other}")),
    }
}

async fn connect(host: &str, port: u16) -> std::result::Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("{}: {error}", at(host, port)))
}

fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
