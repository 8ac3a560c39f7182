// SPDX-License-Identifier: Apache-2.0
//! What there is to be read about, as Python knows it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{Error, Kind, Result};

/// Which answer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// `/stats/summary`.
    #[default]
    Summary,
    /// `/stats/summary?only_cpu_and_memory=true`.
    SummaryOfCpuAndMemory,
    /// `/metrics/resource`.
    Resource,
    /// `/metrics/cadvisor`.
    Cadvisor,
    /// The volumes' part of `/metrics`.
    Volumes,
}

impl What {
    /// Whether directories are to be measured, which costs the most.
    pub(super) fn needs_disks(self) -> bool {
        matches!(self, Self::Summary)
    }
}

/// Pods and containers of a node.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct World {
    /// What is asked for.
    pub what: What,
    /// Goes before the answer in Prometheus text.
    pub before: String,
    /// The node's name.
    pub node: String,
    /// A directory on the file system that pods' files are on.
    pub data: PathBuf,
    /// The cgroup that all pods are in, as a path; empty when there is none.
    pub kubepods: String,
    /// Where the runtime keeps images.
    pub images: Images,
    /// Pods that have a sandbox.
    pub pods: Vec<Pod>,
}

/// The runtime's image file system.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Images {
    /// A directory on it; empty when it is not known.
    pub mountpoint: PathBuf,
    /// Bytes that images take.
    pub used_bytes: Option<u64>,
}

/// One pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// Since when, in seconds since 1970.
    pub started: f64,
    /// Its cgroup, as it was given to the runtime; empty when the runtime chose it.
    pub cgroup: String,
    /// The id of its sandbox.
    pub sandbox: String,
    /// Whether it has the machine's network, whose counters are not its own.
    pub host_network: bool,
    /// Where its containers' logs are, a directory for each.
    pub logs: PathBuf,
    /// Its volumes but for the machine's own directories.
    pub volumes: Vec<Volume>,
    /// Its containers that run.
    pub containers: Vec<Container>,
}

/// A volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Volume {
    /// Its name in the pod.
    pub name: String,
    /// Where it is on the machine.
    pub path: PathBuf,
    /// The claim that it belongs to; its file system is then the volume's own.
    pub claim: String,
    /// What its driver says of it: the machine is then not asked, whose answer may never come.
    pub told: Option<Told>,
}

/// What a driver says of a volume; what it does not say is not told on.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Told {
    /// All bytes.
    pub bytes_total: Option<u64>,
    /// Free bytes.
    pub bytes_available: Option<u64>,
    /// Bytes taken.
    pub bytes_used: Option<u64>,
    /// All inodes.
    pub inodes_total: Option<u64>,
    /// Free inodes.
    pub inodes_available: Option<u64>,
    /// Inodes taken.
    pub inodes_used: Option<u64>,
}

/// A container that runs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Container {
    /// Its name in the pod.
    pub name: String,
    /// Its id in the runtime.
    pub id: String,
    /// Its image.
    pub image: String,
    /// Since when, in seconds since 1970.
    pub started: f64,
    /// Bytes that it has written to its root file system.
    pub rootfs_bytes: Option<u64>,
    /// Inodes of the same.
    pub rootfs_inodes: Option<u64>,
}

impl World {
    /// Reads it from JSON.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|error| Error::new(Kind::Invalid, format!("stats request: {error}")))
    }
}
