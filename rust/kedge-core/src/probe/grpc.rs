// SPDX-License-Identifier: Apache-2.0
//! A probe of gRPC's health service.

use std::collections::HashMap;

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tonic::client::Grpc;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::{Checked, Probe, at, connect};

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

pub(super) const SERVING: i32 = 1;

pub(super) async fn check(probe: &Probe) -> Checked {
    let address = format!("http://{}", at(&probe.host, probe.port));
    let endpoint = Endpoint::from_shared(address).map_err(|error| error.to_string())?;
    let stream = connect(&probe.host, probe.port).await?;
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection was lost")) }
    });
    let channel = endpoint.connect_with_connector(connector).await.map_err(|e| e.to_string())?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let request = tonic::Request::new(HealthCheckRequest { service: probe.path.clone() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let answer = client
        .unary(request, path, codec)
        .await
        .map_err(|status| format!("gRPC probe failed: {}: {}", status.code(), status.message()))?;
    match answer.into_inner().status {
        SERVING => Ok(()),
        other => Err(format!("service unhealthy (responded with {:?})", name(other))),
    }
}

fn name(status: i32) -> String {
    let names = HashMap::from([(0, "UNKNOWN"), (2, "NOT_SERVING"), (3, "SERVICE_UNKNOWN")]);
    names.get(&status).map_or_else(|| status.to_string(), |name| (*name).to_owned())
}
