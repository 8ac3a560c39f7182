// SPDX-License-Identifier: Apache-2.0
//! Turns the messages of `proto/` into Rust types that also read and write JSON; needs no protoc.

use std::error::Error;

const FILES: [&str; 6] = [
    "proto/containerd_events.proto",
    "proto/cri_v1.proto",
    "proto/csi_v1.proto",
    "proto/deviceplugin_v1beta1.proto",
    "proto/pluginregistration_v1.proto",
    "proto/podresources_v1.proto",
];
const BASE64: &str = "#[serde(with = \"crate::grpc::base64_bytes\")]";

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .message_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default, deny_unknown_fields)]")
        .field_attribute(".runtime.v1.ExecSyncResponse.stdout", BASE64)
        .field_attribute(".runtime.v1.ExecSyncResponse.stderr", BASE64)
        .compile_fds(descriptors)?;
    Ok(())
}
