// SPDX-License-Identifier: Apache-2.0
//! The link: its two ends, which drive a pure session over WebSocket and TLS 1.3.
//!
//! [`server::HubServer`] listens on one port for nodes that join (HTTP) and nodes that are linked
//! (WebSocket); [`client::HubClient`] keeps a node's one outbound connection. [`socket`] carries
//! frames, [`tls`] and [`admission`] say who may talk to whom, [`views`] ties the view index to the linked nodes.
//! What the bytes mean is in `wire` and `sync`; `docs/reference/link.md` has it all in one place.

mod admission;
#[cfg(test)]
mod admission_tests;
pub mod client;
mod dial;
mod driver;
pub mod follow;
#[cfg(test)]
mod hostile_tests;
mod http;
mod link;
mod listener;
mod peer;
pub mod reach;
mod reports;
pub mod server;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(test)]
mod tunnel_tests;
pub mod tunnels;
mod views;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

pub use tls::Identity;

/// Where a link lives.
pub const PATH_LINK: &str = "/v1/link";
/// Where the authority's certificate is.
pub const PATH_CA: &str = "/v1/ca";
/// Where a node that has a token asks for its certificate.
pub const PATH_JOIN: &str = "/v1/join";
/// Where a node that goes for good asks for the end of its Node.
pub const PATH_LEAVE: &str = "/v1/leave";
/// Where an API server reaches the services of a linked node: `/v1/tunnel/NODE/SERVICE`.
pub const PATH_TUNNEL: &str = "/v1/tunnel/";
/// What a connection is upgraded to there: bytes, both ways.
pub const TUNNEL_PROTOCOL: &str = "kedge-tunnel";
/// The WebSocket subprotocol: the version of the link.
pub const SUBPROTOCOL: &str = "kedge.link.v1";
/// A first byte that is not TLS: is the hub there? It answers with the same byte.
pub const PROBE: u8 = 0;

/// Milliseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn at(self, milliseconds: u64) -> Instant {
        self.0 + std::time::Duration::from_millis(milliseconds)
    }
}

/// Bytes on the wire, TLS included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    read: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl Meter {
    fn totals(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }
}

/// Random, never zero, and small enough for a signed integer.
fn random_id() -> crate::Result<u64> {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|ring::error::Unspecified| {
        crate::Error::new(crate::Kind::Internal, "the system gave no random bytes")
    })?;
    Ok((u64::from_be_bytes(bytes) >> 1).max(1))
}
