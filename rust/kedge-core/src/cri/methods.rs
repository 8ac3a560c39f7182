// SPDX-License-Identifier: Apache-2.0
//! The calls of CRI v1 that kedge uses, by name: one table.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;

use super::client::Client;
use super::{MAX_MESSAGE_BYTES, proto};

macro_rules! methods {
    ($($service:ident: $($method:ident($request:ident) -> $response:ident),+;)+) => {
        pub(super) async fn dispatch(
            client: &Client,
            method: &str,
            request: &[u8],
            timeout: Duration,
        ) -> Result<Vec<u8>, Status> {
            match method {
                $($(stringify!($method) => {
                    const PATH: &str = concat!(
                        "/runtime.v1.", stringify!($service), "/", stringify!($method)
                    );
                    let call = json::<proto::$request, proto::$response>(
                        client, PATH, request, timeout
                    );
                    Box::pin(call).await
                })+)+
                other => Err(Status::unimplemented(format!("no such CRI method: {other}"))),
            }
        }
    };
}

methods! {
    RuntimeService:
        Version(VersionRequest) -> VersionResponse,
        Status(StatusRequest) -> StatusResponse,
        RuntimeConfig(RuntimeConfigRequest) -> RuntimeConfigResponse,
        RunPodSandbox(RunPodSandboxRequest) -> RunPodSandboxResponse,
        StopPodSandbox(StopPodSandboxRequest) -> StopPodSandboxResponse,
        RemovePodSandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse,
        PodSandboxStatus(PodSandboxStatusRequest) -> PodSandboxStatusResponse,
        ListPodSandbox(ListPodSandboxRequest) -> ListPodSandboxResponse,
        CreateContainer(CreateContainerRequest) -> CreateContainerResponse,
        StartContainer(StartContainerRequest) -> StartContainerResponse,
        StopContainer(StopContainerRequest) -> StopContainerResponse,
        RemoveContainer(RemoveContainerRequest) -> RemoveContainerResponse,
        ListContainers(ListContainersRequest) -> ListContainersResponse,
        ContainerStatus(ContainerStatusRequest) -> ContainerStatusResponse,
        UpdateContainerResources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse,
        ReopenContainerLog(ReopenContainerLogRequest) -> ReopenContainerLogResponse,
        ExecSync(ExecSyncRequest) -> ExecSyncResponse,
        Exec(ExecRequest) -> ExecResponse,
        Attach(AttachRequest) -> AttachResponse,
        PortForward(PortForwardRequest) -> PortForwardResponse,
        ListContainerStats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    ImageService:
        ListImages(ListImagesRequest) -> ListImagesResponse,
        ImageStatus(ImageStatusRequest) -> ImageStatusResponse,
        PullImage(PullImageRequest) -> PullImageResponse,
        RemoveImage(RemoveImageRequest) -> RemoveImageResponse,
        ImageFsInfo(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

async fn json<Q, A>(
    client: &Client,
    path: &'static str,
    request: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>, Status>
where
    Q: prost::Message + DeserializeOwned + 'static,
    A: prost::Message + Default + Serialize + 'static,
{
    if request.len() > MAX_MESSAGE_BYTES {
        let message =
            format!("{path}: wanted at most {MAX_MESSAGE_BYTES} bytes: {}", request.len());
        return Err(Status::resource_exhausted(message));
    }
    let parsed: Q = serde_json::from_slice(request)
        .map_err(|error| Status::invalid_argument(format!("{path}: {error}")))?;
    let answer: A = client.unary(path, parsed, timeout).await?;
    serde_json::to_vec(&answer).map_err(|error| Status::internal(format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    async fn code_of(method: &str, request: &[u8]) -> (Code, String) {
        let client = Client::new("/nonexistent/kedge-test.sock").unwrap();
        let status = dispatch(&client, method, request, Duration::from_secs(1)).await.unwrap_err();
        (status.code(), status.message().to_owned())
    }

    #[tokio::test]
    async fn a_method_that_is_not_in_the_table_is_unimplemented() {
        assert_eq!(code_of("Checkpoint", b"{}").await.0, Code::Unimplemented);
    }

    #[tokio::test]
    async fn a_field_that_cri_does_not_have_is_refused_by_name() {
        let (code, message) = code_of("StopContainer", br#"{"container":"c1"}"#).await;
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.contains("unknown field `container`"), "{message}");
    }

    #[test]
    fn bytes_are_base64_and_absent_fields_are_defaults() {
        let answer = proto::ExecSyncResponse { stdout: b"hi\xff".to_vec(), ..Default::default() };
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(text, r#"{"stdout":"aGn/","stderr":"","exit_code":0}"#);
        assert_eq!(serde_json::from_str::<proto::ExecSyncResponse>(&text).unwrap(), answer);
        let request: proto::ListContainersRequest = serde_json::from_str("{}").unwrap();
        assert_eq!(request, proto::ListContainersRequest::default());
    }
}
