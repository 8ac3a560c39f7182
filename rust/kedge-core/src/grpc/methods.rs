// SPDX-License-Identifier: Apache-2.0
//! Tables of methods: a name, its messages, and so how JSON becomes a call.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;

use super::MAX_MESSAGE_BYTES;
use super::client::Client;

/// Makes `dispatch`, which calls a method of a table by its name with a JSON request.
///
/// A row of the table names the package, the module of its messages, the service and its methods.
macro_rules! methods {
    ($what:literal:
     $($package:literal $messages:ident $service:ident: $($method:ident($request:ident) -> $response:ident),+;)+) => {
        pub(super) async fn dispatch(
            client: &$crate::grpc::Client,
            method: &str,
            request: &[u8],
            timeout: std::time::Duration,
        ) -> Result<Vec<u8>, tonic::Status> {
            match method {
                $($(stringify!($method) => {
                    const PATH: &str = concat!(
                        "/", $package, ".", stringify!($service), "/", stringify!($method)
                    );
                    let call = $crate::grpc::methods::json::<$messages::$request, $messages::$response>(
                        client, PATH, request, timeout
                    );
                    Box::pin(call).await
                })+)+
                other => Err(tonic::Status::unimplemented(
                    format!(concat!("no such ", $what, " method: {}"), other)
                )),
            }
        }

        /// Calls `method` of the table with a JSON request; the answer as JSON.
        pub(super) async fn call(
            client: &$crate::grpc::Client,
            method: &str,
            request: &[u8],
            timeout: std::time::Duration,
        ) -> Result<Vec<u8>, $crate::grpc::Failure> {
            let done = dispatch(client, method, request, timeout);
            $crate::grpc::within(method, timeout, done).await
        }
    };
}
pub(crate) use methods;

/// One call: JSON in, JSON out.
pub(crate) async fn json<Q, A>(
    client: &Client,
    path: &'static str,
    request: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, Status>
where
    Q: prost::Message + DeserializeOwned + 'static,
    A: prost::Message + Default + Serialize + 'static,
{
    let parsed: Q = parse(path, request)?;
    let answer: A = client.unary(path, parsed, timeout).await?;
    write(path, &answer)
}

/// A message from JSON of a limited size.
pub(crate) fn parse<Q: DeserializeOwned>(path: &str, request: &[u8]) -> Result<Q, Status> {
    if request.len() > MAX_MESSAGE_BYTES {
        let message =
            format!("{path}: wanted at most {MAX_MESSAGE_BYTES} bytes: {}", request.len());
        return Err(Status::resource_exhausted(message));
    }
    serde_json::from_slice(request)
        .map_err(|error| Status::invalid_argument(format!("{path}: {error}")))
}

/// A message as JSON.
pub(crate) fn write<A: Serialize>(path: &str, answer: &A) -> Result<Vec<u8>, Status> {
    serde_json::to_vec(answer).map_err(|error| Status::internal(format!("{path}: {error}")))
}
