// SPDX-License-Identifier: Apache-2.0
//! A network namespace's interfaces, from `/proc/PID/net/dev` of a process in it.

use std::path::Path;

use super::cgroup;

const MAX_INTERFACES: usize = 64;

/// Counters of one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
}

/// Counters of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) errors: u64,
    pub(super) dropped: u64,
}

/// The interfaces that process `pid` sees, but for loopback.
pub(super) fn interfaces(root: &Path, pid: &str) -> Vec<Interface> {
    let path = root.join("proc").join(pid).join("net/dev");
    let text = cgroup::read(&path).unwrap_or_default();
    text.lines().filter_map(interface).take(MAX_INTERFACES).collect()
}

fn interface(line: &str) -> Option<Interface> {
    let (name, rest) = line.split_once(':')?;
    let name = name.trim();
    if name == "lo" {
        return None;
    }
    let found: Vec<u64> = rest.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let traffic = |at: usize| {
        let [bytes, packets, errors, dropped] = *found.get(at..at + 4)?.first_chunk::<4>()?;
        Some(Traffic { bytes, packets, errors, dropped })
    };
    Some(Interface { name: name.to_owned(), received: traffic(0)?, sent: traffic(8)? })
}
