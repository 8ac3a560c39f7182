// SPDX-License-Identifier: Apache-2.0
//! The calls of CRI v1 that kedge uses, by name: one table.

use super::proto;
use crate::grpc::methods::methods;

methods! {
    "CRI":
    "runtime.v1" proto RuntimeService:
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
    "runtime.v1" proto ImageService:
        ListImages(ListImagesRequest) -> ListImagesResponse,
        ImageStatus(ImageStatusRequest) -> ImageStatusResponse,
        PullImage(PullImageRequest) -> PullImageResponse,
        RemoveImage(RemoveImageRequest) -> RemoveImageResponse,
        ImageFsInfo(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;
    use crate::grpc::Client;

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

    #[tokio::test]
    async fn a_runtime_that_is_away_is_unavailable_and_says_why() {
        let client = Client::new("unix:///nonexistent/kedge-test.sock").unwrap();
        let failure = call(&client, "Version", b"{}", Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(failure.code, Code::Unavailable as i32);
        assert!(failure.message.contains("No such file"), "{}", failure.message);
    }

    #[tokio::test]
    async fn a_runtime_that_never_answers_is_left_at_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mute.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let client = Client::new(path.to_str().unwrap()).unwrap();
        let failure = call(&client, "Version", b"{}", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(failure.code, Code::DeadlineExceeded as i32);
    }
}
