// SPDX-License-Identifier: Apache-2.0
//! The calls that plugins answer, by name: one table.

use super::proto::{csi, devices, registration};
use crate::grpc::methods::methods;

/// The one method of a plugin that answers with a stream.
pub(super) const LIST_AND_WATCH: &str = "/v1beta1.DevicePlugin/ListAndWatch";

methods! {
    "plugin":
    "pluginregistration" registration Registration:
        GetInfo(InfoRequest) -> PluginInfo,
        NotifyRegistrationStatus(RegistrationStatus) -> RegistrationStatusResponse;
    "v1beta1" devices DevicePlugin:
        GetDevicePluginOptions(Empty) -> DevicePluginOptions,
        GetPreferredAllocation(PreferredAllocationRequest) -> PreferredAllocationResponse,
        Allocate(AllocateRequest) -> AllocateResponse,
        PreStartContainer(PreStartContainerRequest) -> PreStartContainerResponse;
    "csi.v1" csi Identity:
        GetPluginInfo(GetPluginInfoRequest) -> GetPluginInfoResponse,
        Probe(ProbeRequest) -> ProbeResponse;
    "csi.v1" csi Node:
        NodeGetInfo(NodeGetInfoRequest) -> NodeGetInfoResponse,
        NodeGetCapabilities(NodeGetCapabilitiesRequest) -> NodeGetCapabilitiesResponse,
        NodeStageVolume(NodeStageVolumeRequest) -> NodeStageVolumeResponse,
        NodeUnstageVolume(NodeUnstageVolumeRequest) -> NodeUnstageVolumeResponse,
        NodePublishVolume(NodePublishVolumeRequest) -> NodePublishVolumeResponse,
        NodeUnpublishVolume(NodeUnpublishVolumeRequest) -> NodeUnpublishVolumeResponse,
        NodeGetVolumeStats(NodeGetVolumeStatsRequest) -> NodeGetVolumeStatsResponse,
        NodeExpandVolume(NodeExpandVolumeRequest) -> NodeExpandVolumeResponse;
}
