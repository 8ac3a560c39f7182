// SPDX-License-Identifier: Apache-2.0
//! The API server as a service of the hub: what nodes open a tunnel to, to ask as their pods.
//!
//! The hub adds nothing to what passes, least of all its own certificate: a request counts for the
//! token that it carries, and for nobody when it carries none.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::time::timeout;

use super::connect::{Connector, Options};
use crate::hub::tunnels::{Services, TunnelIo};
use crate::runtime::Runtime;
use crate::{Error, Kind, Result};

/// The service's name on the link.
const SERVICE: &str = "api";
const CONNECTING: Duration = Duration::from_secs(10);
const BUFFER: usize = 16 << 10;

/// Connects tunnels to the API server.
pub struct ApiService {
    connector: Arc<Connector>,
    runtime: Runtime,
}

impl ApiService {
    /// Of the server in `options`; its credentials are left out.
    pub fn new(runtime: &Runtime, options: &Options) -> Result<Self> {
        let anonymous =
            Options { certificate: String::new(), key: String::new(), ..options.clone() };
        let connector = Connector::new(&anonymous)?;
        if !connector.prefix.is_empty() {
            let message = format!(
                "server: pods of nodes cannot reach one below a path: {}",
                connector.prefix
            );
            return Err(Error::new(Kind::Invalid, message));
        }
        Ok(Self { connector: Arc::new(connector), runtime: runtime.clone() })
    }
}

impl Services for ApiService {
    fn serve(&self, service: &str, mut connection: TunnelIo) {
        if service != SERVICE {
            return;
        }
        let connector = Arc::clone(&self.connector);
        self.runtime.spawn(async move {
            let mut server = match timeout(CONNECTING, connector.stream()).await {
                Ok(Ok(server)) => server,
                Ok(Err(error)) => return log::warn!("a node's request was not passed on: {error}"),
                Err(_) => return log::warn!("a node's request was not passed on: no connection"),
            };
            // Either end may go at any point; the other then sees its connection end.
            let _ =
                copy_bidirectional_with_sizes(&mut connection, &mut server, BUFFER, BUFFER).await;
        });
    }
}
