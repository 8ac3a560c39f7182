// SPDX-License-Identifier: Apache-2.0
//! The whole machine: the root cgroup, and what `/proc` knows where that does not count.

use std::path::Path;

use super::cgroup::{self, Cgroups, Pressures, Usage, now_ns};

/// A machine's size and usage.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    pub(super) usage: Usage,
    pub(super) cores: usize,
    pub(super) memory: u64,
    pub(super) swap: u64,
    pub(super) booted: f64,
    pub(super) max_pids: Option<u64>,
}

/// Reads it.
pub(super) fn read(root: &Path, cgroups: &Cgroups) -> Machine {
    let proc = root.join("proc");
    let info = cgroup::read(&proc.join("meminfo")).unwrap_or_default();
    let kibibytes = |wanted: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .map(|kibibytes| kibibytes << 10)
    };
    let total = kibibytes("MemTotal").unwrap_or(0);
    let mut usage = cgroups.usage("").unwrap_or_default();
    usage.time_ns = now_ns();
    // The root of version 2 has no memory.current; that of 1 counts only what cgroups were charged.
    usage.memory = kibibytes("MemFree").map(|free| total.saturating_sub(free));
    usage.working_set = cgroup::working_set(usage.memory, kibibytes("Inactive(file)"));
    usage.rss = usage.rss.or(kibibytes("AnonPages"));
    let swap = kibibytes("SwapTotal").unwrap_or(0);
    usage.swap = kibibytes("SwapFree").map(|free| swap.saturating_sub(free));
    usage.memory_limit = None;
    let stat = cgroup::read(&proc.join("stat")).unwrap_or_default();
    usage.cpu_ns = usage.cpu_ns.or_else(|| busy(&stat));
    let pressure = |name: &str| cgroup::pressure(&proc.join("pressure").join(name));
    usage.pressure =
        Pressures { cpu: pressure("cpu"), memory: pressure("memory"), io: pressure("io") };
    let load = cgroup::read(&proc.join("loadavg")).unwrap_or_default();
    let tasks = load.split_whitespace().nth(3).and_then(|word| word.split_once('/'));
    usage.pids = tasks.and_then(|(_, tasks)| tasks.parse().ok());
    let kernel = proc.join("sys/kernel");
    let limits = ["pid_max", "threads-max"].map(|name| cgroup::number(&kernel.join(name)));
    Machine {
        usage,
        cores: stat.lines().filter(|line| is_core(line)).count(),
        memory: total,
        swap,
        booted: stat
            .lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
            .unwrap_or(0.0),
        max_pids: limits.into_iter().flatten().min(),
    }
}

fn is_core(line: &str) -> bool {
    line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|one: char| one.is_ascii_digit()))
}

/// Everything but idle and waiting for IO, in hundredths of seconds.
fn busy(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let spent = ticks.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4));
    Some(spent.map(|(_, ticks)| ticks).sum::<u64>() * 10_000_000)
}
