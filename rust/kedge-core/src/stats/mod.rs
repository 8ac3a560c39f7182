// SPDX-License-Identifier: Apache-2.0
//! What the machine, its pods and their containers use, counted when somebody asks.
//!
//! Python says which pods and containers there are (`world`); here their cgroups (versions 1 and 2),
//! network interfaces and directories are read, and the answer is written: the kubelet's Summary API
//! (`summary`) or Prometheus text (`text`, `cadvisor`). Nothing is read in between; of an answer only each
//! cgroup's CPU time is kept, for the rate in the next one.

mod cadvisor;
mod cgroup;
mod disk;
mod machine;
mod network;
mod reading;
mod summary;
#[cfg(test)]
mod tests;
mod text;
mod world;

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

pub use cgroup::{Cgroups, Usage};
pub use world::{What, World};

use crate::{Error, Kind, Result};
use reading::{Rates, Reading};

/// Answers questions about usage.
#[derive(Debug)]
pub struct Stats {
    root: PathBuf,
    rates: Mutex<Rates>,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new(Path::new("/"))
    }
}

impl Stats {
    /// Stats of the machine whose `/proc` and `/sys` are below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), rates: Mutex::default() }
    }

    /// Reads what `world` asks for: content type and body. Blocks on files.
    pub fn answer(&self, world: &World) -> Result<(&'static str, Vec<u8>)> {
        let reading = Reading::take(&self.root, world);
        match world.what {
            What::Summary | What::SummaryOfCpuAndMemory => {
                let mut rates = self.rates.lock();
                let found = summary::summary(world, &reading, &mut rates);
                let body = serde_json::to_vec(&found)
                    .map_err(|error| Error::new(Kind::Internal, format!("summary: {error}")))?;
                Ok(("application/json", body))
            }
            What::Resource => Ok((text::TYPE, text::resource(world, &reading))),
            What::Cadvisor => Ok((text::TYPE, cadvisor::cadvisor(world, &reading))),
            What::Volumes => Ok((text::TYPE, text::volumes(world, &reading))),
        }
    }
}
