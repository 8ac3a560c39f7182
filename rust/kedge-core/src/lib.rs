// SPDX-License-Identifier: Apache-2.0
//! kedge without Python: the store, the link, API serving and the container runtime client.
//!
//! Nothing here knows `PyO3`; `kedge-py` wraps what Python needs.

pub mod bridge;
pub mod cri;
mod desk;
mod directory;
pub mod error;
pub mod grpc;
pub mod hub;
pub mod kube;
pub mod kubeapi;
pub mod kubelet;
pub mod pages;
pub mod pki;
pub mod plugins;
pub mod probe;
pub mod runtime;
pub mod stats;
pub mod store;
pub mod sync;
pub mod wire;

pub use error::{Error, Kind, Result};
