// SPDX-License-Identifier: Apache-2.0
//! Everything that one answer needs, read at once; and the rates between two answers.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::Path;

use super::cgroup::{Cgroups, Usage};
use super::disk::{self, FileSystem, Taken};
use super::machine::{self, Machine};
use super::network::{self, Interface};
use super::world::{Pod, Told, World};

/// A rate over less time says nothing.
const MIN_WINDOW_NS: u64 = 100_000_000;
/// An earlier sample than this is of another time.
const MAX_WINDOW_NS: u64 = 600_000_000_000;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) machine: Machine,
    pub(super) interfaces: Vec<Interface>,
    pub(super) data: Option<FileSystem>,
    pub(super) images: Option<FileSystem>,
    /// The kubelet's pods together.
    pub(super) all_pods: Option<(String, Usage)>,
    /// As the runtime and this process are.
    pub(super) pods: Vec<PodReading>,
}

/// What one pod uses.
#[derive(Debug, Default)]
pub(super) struct PodReading {
    pub(super) path: String,
    pub(super) usage: Option<Usage>,
    pub(super) interfaces: Vec<Interface>,
    pub(super) sandbox: Option<(String, Usage)>,
    /// As the world's containers.
    pub(super) containers: Vec<Option<(String, Usage)>>,
    pub(super) logs: Vec<Option<Taken>>,
    pub(super) volumes: Vec<VolumeReading>,
}

/// What one volume takes, and has.
#[derive(Debug, Default)]
pub(super) struct VolumeReading {
    /// What its files take, where they were counted; it is part of what the pod takes of the node.
    pub(super) taken: Option<Taken>,
    pub(super) figures: Told,
}

impl Reading {
    /// Reads what `world` asks for.
    pub(super) fn take(root: &Path, world: &World) -> Self {
        use super::What;
        let cgroups = Cgroups::new(root);
        if world.what == What::Volumes {
            let pods = world
                .pods
                .iter()
                .map(|pod| PodReading { volumes: volumes(pod, false), ..PodReading::default() });
            return Self { pods: pods.collect(), ..Self::default() };
        }
        let wants_network = matches!(world.what, What::Summary | What::Cadvisor);
        let pods = world.pods.iter().map(|pod| read_pod(root, &cgroups, world, pod));
        let pods: Vec<PodReading> = pods.collect();
        let all = Some(world.kubepods.clone()).filter(|path| !path.is_empty());
        Self {
            machine: machine::read(root, &cgroups),
            interfaces: if wants_network { network::interfaces(root, "1") } else { Vec::new() },
            data: disk::file_system(&world.data),
            images: disk::file_system(&world.images.mountpoint),
            all_pods: all.and_then(|path| cgroups.usage(&path).map(|usage| (path, usage))),
            pods,
        }
    }
}

fn read_pod(root: &Path, cgroups: &Cgroups, world: &World, pod: &Pod) -> PodReading {
    use super::What;
    let path = Cgroups::expand(&pod.cgroup);
    if path.is_empty() {
        return PodReading {
            containers: pod.containers.iter().map(|_one| None).collect(),
            logs: pod.containers.iter().map(|_one| None).collect(),
            ..PodReading::default()
        };
    }
    let child = |id: &str| {
        let path = cgroups.child(&path, id)?;
        cgroups.usage(&path).map(|usage| (path, usage))
    };
    let sandbox = child(&pod.sandbox);
    let process = sandbox.as_ref().and_then(|(path, _)| cgroups.process(path));
    let wants_network = matches!(world.what, What::Summary | What::Cadvisor) && !pod.host_network;
    let measures = world.what.needs_disks();
    PodReading {
        usage: cgroups.usage(&path),
        interfaces: match process {
            Some(pid) if wants_network => network::interfaces(root, &pid.to_string()),
            _ => Vec::new(),
        },
        sandbox,
        containers: pod.containers.iter().map(|one| child(&one.id)).collect(),
        logs: pod
            .containers
            .iter()
            .map(|one| measures.then(|| disk::taken(&pod.logs.join(&one.name))).flatten())
            .collect(),
        volumes: if measures { volumes(pod, true) } else { Vec::new() },
        path,
    }
}

fn volumes(pod: &Pod, measures: bool) -> Vec<VolumeReading> {
    let read = pod.volumes.iter().map(|volume| {
        if let Some(figures) = volume.told {
            return VolumeReading { taken: None, figures };
        }
        let measured = measures && volume.claim.is_empty();
        let taken = measured.then(|| disk::taken(&volume.path)).flatten();
        let figures = disk::file_system(&volume.path).map_or_else(Told::default, Told::from);
        VolumeReading { taken, figures }
    });
    read.collect()
}

impl From<FileSystem> for Told {
    fn from(of: FileSystem) -> Self {
        Self {
            bytes_total: Some(of.capacity),
            bytes_available: Some(of.available),
            bytes_used: Some(of.used),
            inodes_total: Some(of.inodes),
            inodes_available: Some(of.inodes_free),
            // Some file systems know no end of free ones.
            inodes_used: Some(of.inodes.saturating_sub(of.inodes_free)),
        }
    }
}

/// The CPU time of each cgroup in the answer before.
#[derive(Debug, Default)]
pub(super) struct Rates {
    before: HashMap<u64, (u64, u64)>,
    now: HashMap<u64, (u64, u64)>,
}

impl Rates {
    /// Nanoseconds of CPU time a second since the answer before.
    pub(super) fn of(&mut self, path: &str, usage: &Usage) -> Option<u64> {
        let cpu = usage.cpu_ns?;
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let key = hasher.finish();
        let before = self.before.get(&key).copied();
        let (then, spent) = before.unwrap_or((usage.time_ns, cpu));
        let window = usage.time_ns.saturating_sub(then);
        // Who asks again at once is answered over the window of the one before.
        let kept = if before.is_some() && window < MIN_WINDOW_NS {
            (then, spent)
        } else {
            (usage.time_ns, cpu)
        };
        self.now.insert(key, kept);
        if !(MIN_WINDOW_NS..=MAX_WINDOW_NS).contains(&window) {
            return None;
        }
        let gained = u128::from(cpu.saturating_sub(spent)) * 1_000_000_000;
        u64::try_from(gained / u128::from(window)).ok()
    }

    /// The answer is whole: what was not in it is forgotten.
    pub(super) fn done(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}
