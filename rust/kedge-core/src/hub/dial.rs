// SPDX-License-Identifier: Apache-2.0
//! From an address to a socket: TCP, TLS, the upgrade; each with its own deadline and one clear error.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::http as ws_http;

use crate::hub::client::ClientConfig;
use crate::hub::socket::{self, Metered, Socket, Tls};
use crate::hub::{Meter, PATH_LINK, PROBE, SUBPROTOCOL, tls};
use crate::{Error, Kind, Result};

const CONNECT: Duration = Duration::from_secs(3);
const GREET: Duration = Duration::from_secs(8);
const PROBING: Duration = Duration::from_millis(1500);

/// Where to connect, and with what.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    server: String,
    name: ServerName<'static>,
}

impl Target {
    pub(crate) fn new(config: &ClientConfig) -> Result<Self> {
        let wanted = || {
            Error::new(Kind::Invalid, format!("server: wanted HOST:PORT, got: {}", config.server))
        };
        let (host, port) = config.server.rsplit_once(':').ok_or_else(wanted)?;
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(wanted());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = if config.server_name.is_empty() { host } else { &config.server_name };
        let name = ServerName::try_from(name.to_owned()).map_err(|_error| {
            Error::new(
                Kind::Invalid,
                format!("server name: wanted a DNS name or an address, got: {name}"),
            )
        })?;
        Ok(Self {
            tls: tls::client_config(&config.identity, &config.ca)?,
            server: config.server.clone(),
            name,
        })
    }

    fn peer(&self) -> String {
        format!("the hub at {}", self.server)
    }
}

/// Opens a link's socket.
pub(crate) async fn dial(target: &Target, meter: &Meter) -> Result<Box<Socket>> {
    let stream = connect(target, CONNECT).await?;
    stream.set_nodelay(true)?;
    let greeted =
        timeout(GREET, Box::pin(greet(target, Metered::new(stream, meter.clone())))).await;
    greeted.map_err(|_elapsed| {
        Error::new(
            Kind::Timeout,
            format!("{}: no answer within {} s", target.peer(), GREET.as_secs()),
        )
    })?
}

/// Asks with one byte whether a hub is there.
pub(crate) async fn probe(target: &Target) -> Result<()> {
    let asked = async {
        let mut stream = connect(target, PROBING).await?;
        stream.write_all(&[PROBE]).await?;
        let mut answer = [0xff];
        stream.read_exact(&mut answer).await?;
        if answer[0] == PROBE { Ok(()) } else { Err(Error::new(Kind::Invalid, "not a hub")) }
    };
    timeout(PROBING, asked)
        .await
        .map_err(|_elapsed| Error::new(Kind::Timeout, "no answer to a probe"))?
}

async fn connect(target: &Target, limit: Duration) -> Result<TcpStream> {
    let peer = target.peer();
    match timeout(limit, TcpStream::connect(&target.server)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            Err(Error::new(Kind::Disconnected, format!("{peer} cannot be reached: {error}")))
        }
        Err(_) => Err(Error::new(
            Kind::Timeout,
            format!("{peer} cannot be reached: no answer within {} s", limit.as_secs()),
        )),
    }
}

async fn greet(target: &Target, stream: Metered) -> Result<Box<Socket>> {
    let peer = target.peer();
    let connector = TlsConnector::from(Arc::clone(&target.tls));
    let stream = connector
        .connect(target.name.clone(), stream)
        .await
        .map_err(|error| tls::explain(&error, &peer))?;
    let request = ws_http::Request::builder()
        .uri(format!("ws://hub{PATH_LINK}"))
        .header("host", "hub")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", generate_key())
        .header("sec-websocket-protocol", SUBPROTOCOL)
        .body(())
        .map_err(|error| Error::new(Kind::Internal, format!("request for a link: {error}")))?;
    match client_async_with_config(request, Tls::from(stream), Some(socket::config())).await {
        Ok((stream, _)) => Ok(Box::new(Socket::client(stream, peer))),
        Err(WsError::Http(response)) => Err(refusal(&peer, &response)),
        Err(error) => Err(socket::explain(error, &peer)),
    }
}

fn refusal(peer: &str, response: &ws_http::Response<Option<Vec<u8>>>) -> Error {
    let body = response.body().as_deref().unwrap_or_default();
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned();
    let status = response.status().as_u16();
    let kind = match status {
        403 => Kind::Certificate,
        503 => Kind::Disconnected,
        _ => Kind::Rejected,
    };
    Error::new(kind, format!("{peer} refused the link: {status}: {text}"))
}
