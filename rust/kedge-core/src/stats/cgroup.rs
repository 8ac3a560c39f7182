// SPDX-License-Identifier: Apache-2.0
//! One cgroup's counters, from version 1 (hybrid included) or 2, in one shape.
//!
//! What a kernel does not count is absent, never zero. Working set is what cAdvisor calls it: usage
//! without the file pages that have not been used lately.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_FILE: u64 = 64 * 1024;
const MICRO: u64 = 1000;

/// A machine's cgroup hierarchies.
#[derive(Clone, Debug)]
pub struct Cgroups {
    root: PathBuf,
    is_unified: bool,
}

/// What a cgroup uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Nanoseconds since 1970 at which it was read.
    pub time_ns: u64,
    /// CPU time in nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Of it in user mode.
    pub cpu_user_ns: Option<u64>,
    /// Of it in the kernel.
    pub cpu_system_ns: Option<u64>,
    /// Enforcement periods of the CPU quota that have passed.
    pub cpu_periods: Option<u64>,
    /// Those in which it was throttled.
    pub cpu_throttled: Option<u64>,
    /// For how long, in nanoseconds.
    pub cpu_throttled_ns: Option<u64>,
    /// The quota in microseconds; none without one.
    pub cpu_quota: Option<u64>,
    /// Its period in microseconds.
    pub cpu_period: Option<u64>,
    /// Its weight as shares of version 1.
    pub cpu_shares: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// The most that it was.
    pub memory_max: Option<u64>,
    /// Without inactive file pages.
    pub working_set: Option<u64>,
    /// Anonymous pages.
    pub rss: Option<u64>,
    /// File pages.
    pub cache: Option<u64>,
    /// File pages that are mapped.
    pub mapped_file: Option<u64>,
    /// Bytes swapped out.
    pub swap: Option<u64>,
    /// The limit; none without one.
    pub memory_limit: Option<u64>,
    /// How often the limit was hit.
    pub memory_failures: Option<u64>,
    /// How often the kernel has killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Page faults.
    pub faults: Option<u64>,
    /// Of them with reading from a disk.
    pub major_faults: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// How many there may be; none without a limit.
    pub pids_limit: Option<u64>,
    /// By device, as MAJOR:MINOR.
    pub io: Vec<Io>,
    /// Stalls for lack of CPU, memory and IO; version 2 only.
    pub pressure: Pressures,
}

/// Reads and writes of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// As MAJOR:MINOR.
    pub device: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Pressure stall information (PSI).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressures {
    /// For lack of CPU.
    pub cpu: Option<Pressure>,
    /// For lack of memory.
    pub memory: Option<Pressure>,
    /// For lack of IO.
    pub io: Option<Pressure>,
}

/// One resource's stalls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Stall,
    /// All of them did.
    pub full: Stall,
}

/// How much of the time was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// In microseconds since the start.
    pub total: u64,
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
}

impl Cgroups {
    /// The hierarchies below `root`, which is `/` but in tests.
    pub fn new(root: &Path) -> Self {
        let root = root.join("sys/fs/cgroup");
        let is_unified = root.join("cgroup.controllers").exists();
        Self { root, is_unified }
    }

    /// Where `path` is: the name of a slice of systemd is a path of nested slices.
    pub fn expand(path: &str) -> String {
        let bare = path.trim_matches('/');
        let Some(stem) = bare.strip_suffix(".slice").filter(|stem| !stem.contains('/')) else {
            return bare.to_owned();
        };
        let mut parts: Vec<String> = Vec::new();
        for (at, _) in stem.match_indices('-') {
            parts.push(format!("{}.slice", &stem[..at]));
        }
        parts.push(bare.to_owned());
        parts.join("/")
    }

    /// The child of `parent` that belongs to container `id`, however the runtime names it.
    pub fn child(&self, parent: &str, id: &str) -> Option<String> {
        if id.is_empty() {
            return None;
        }
        let listed = self.directory("memory", parent);
        if listed.join(id).is_dir() {
            return Some(format!("{parent}/{id}"));
        }
        let names = fs::read_dir(listed).ok()?.flatten();
        let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
        names.find(|name| name.contains(id)).map(|name| format!("{parent}/{name}"))
    }

    /// The first process of a cgroup.
    pub fn process(&self, path: &str) -> Option<u32> {
        let text = read(&self.directory("memory", path).join("cgroup.procs"))?;
        text.lines().find_map(|line| line.trim().parse().ok()).filter(|pid| *pid > 0)
    }

    /// What `path` uses; `None` when there is no such cgroup.
    pub fn usage(&self, path: &str) -> Option<Usage> {
        let any = ["memory", "cpuacct", "cpu", "pids"];
        if !any.iter().any(|controller| self.directory(controller, path).is_dir()) {
            return None;
        }
        let mut usage = Usage { time_ns: now_ns(), ..Usage::default() };
        if self.is_unified {
            unified(&self.directory("", path), &mut usage);
        } else {
            self.version_1(path, &mut usage);
        }
        Some(usage)
    }

    fn directory(&self, controller: &str, path: &str) -> PathBuf {
        let path = path.trim_start_matches('/');
        if self.is_unified {
            return self.root.join(path);
        }
        self.root.join(controller).join(path)
    }

    fn version_1(&self, path: &str, usage: &mut Usage) {
        let account = self.directory("cpuacct", path);
        usage.cpu_ns = number(&account.join("cpuacct.usage"));
        usage.cpu_user_ns = number(&account.join("cpuacct.usage_user"));
        usage.cpu_system_ns = number(&account.join("cpuacct.usage_sys"));
        let cpu = self.directory("cpu", path);
        let stat = table(&cpu.join("cpu.stat"));
        usage.cpu_periods = stat.get("nr_periods").copied();
        usage.cpu_throttled = stat.get("nr_throttled").copied();
        usage.cpu_throttled_ns = stat.get("throttled_time").copied();
        usage.cpu_shares = number(&cpu.join("cpu.shares"));
        usage.cpu_period = number(&cpu.join("cpu.cfs_period_us"));
        // -1 is no quota, and no number here.
        usage.cpu_quota = number(&cpu.join("cpu.cfs_quota_us"));
        let memory = self.directory("memory", path);
        let stat = table(&memory.join("memory.stat"));
        let total = |name: &str| stat.get(name).copied();
        usage.memory = number(&memory.join("memory.usage_in_bytes"));
        usage.memory_max = number(&memory.join("memory.max_usage_in_bytes"));
        usage.memory_failures = number(&memory.join("memory.failcnt"));
        usage.working_set = working_set(usage.memory, total("total_inactive_file"));
        usage.rss = total("total_rss");
        usage.cache = total("total_cache");
        usage.mapped_file = total("total_mapped_file");
        usage.swap = total("total_swap");
        usage.faults = total("total_pgfault");
        usage.major_faults = total("total_pgmajfault");
        usage.memory_limit = number(&memory.join("memory.limit_in_bytes"))
            // Without a limit it is the largest multiple of a page.
            .filter(|limit| *limit < 1 << 62);
        usage.oom_kills = table(&memory.join("memory.oom_control")).get("oom_kill").copied();
        let pids = self.directory("pids", path);
        usage.pids = number(&pids.join("pids.current"));
        usage.pids_limit = number(&pids.join("pids.max"));
        usage.io = io_1(&self.directory("blkio", path));
    }
}

fn unified(path: &Path, usage: &mut Usage) {
    let stat = table(&path.join("cpu.stat"));
    let nanos = |name: &str| stat.get(name).map(|micros| micros * MICRO);
    usage.cpu_ns = nanos("usage_usec");
    usage.cpu_user_ns = nanos("user_usec");
    usage.cpu_system_ns = nanos("system_usec");
    usage.cpu_periods = stat.get("nr_periods").copied();
    usage.cpu_throttled = stat.get("nr_throttled").copied();
    usage.cpu_throttled_ns = nanos("throttled_usec");
    if let Some(text) = read(&path.join("cpu.max")) {
        let mut words = text.split_whitespace();
        usage.cpu_quota = words.next().and_then(|word| word.parse().ok());
        usage.cpu_period = words.next().and_then(|word| word.parse().ok());
    }
    // As runc turns shares 2..262144 into weights 1..10000.
    usage.cpu_shares = number(&path.join("cpu.weight"))
        .map(|weight| 2 + (weight.saturating_sub(1)) * 262_142 / 9999);
    let stat = table(&path.join("memory.stat"));
    let total = |name: &str| stat.get(name).copied();
    usage.memory = number(&path.join("memory.current"));
    usage.memory_max = number(&path.join("memory.peak"));
    usage.working_set = working_set(usage.memory, total("inactive_file"));
    usage.rss = total("anon");
    usage.cache = total("file");
    usage.mapped_file = total("file_mapped");
    usage.swap = number(&path.join("memory.swap.current"));
    usage.faults = total("pgfault");
    usage.major_faults = total("pgmajfault");
    usage.memory_limit = number(&path.join("memory.max"));
    let events = table(&path.join("memory.events"));
    usage.memory_failures = events.get("max").copied();
    usage.oom_kills = events.get("oom_kill").copied();
    usage.pids = number(&path.join("pids.current"));
    usage.pids_limit = number(&path.join("pids.max"));
    usage.io = io_2(&path.join("io.stat"));
    usage.pressure = Pressures {
        cpu: pressure(&path.join("cpu.pressure")),
        memory: pressure(&path.join("memory.pressure")),
        io: pressure(&path.join("io.pressure")),
    };
}

/// Usage without inactive file pages.
pub(super) fn working_set(usage: Option<u64>, inactive_file: Option<u64>) -> Option<u64> {
    usage.map(|usage| usage.saturating_sub(inactive_file.unwrap_or(0)))
}

fn io_1(path: &Path) -> Vec<Io> {
    let mut found: Vec<Io> = Vec::new();
    for (file, is_bytes) in [
        ("blkio.throttle.io_service_bytes_recursive", true),
        ("blkio.throttle.io_serviced_recursive", false),
    ] {
        for line in read(&path.join(file)).unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            let (Some(device), Some(kind), Some(Ok(value))) =
                (words.next(), words.next(), words.next().map(str::parse::<u64>))
            else {
                continue;
            };
            let at = found.iter().position(|one| one.device == device).unwrap_or_else(|| {
                found.push(Io { device: device.to_owned(), ..Io::default() });
                found.len() - 1
            });
            match (kind, is_bytes) {
                ("Read", true) => found[at].read_bytes = value,
                ("Write", true) => found[at].write_bytes = value,
                ("Read", false) => found[at].reads = value,
                ("Write", false) => found[at].writes = value,
                _ => {}
            }
        }
    }
    found
}

fn io_2(path: &Path) -> Vec<Io> {
    let text = read(path).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let mut one = Io { device: words.next()?.to_owned(), ..Io::default() };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().ok()?;
            match name {
                "rbytes" => one.read_bytes = value,
                "wbytes" => one.write_bytes = value,
                "rios" => one.reads = value,
                "wios" => one.writes = value,
                _ => {}
            }
        }
        Some(one)
    };
    text.lines().filter_map(line).collect()
}

/// Reads a PSI file.
pub(super) fn pressure(path: &Path) -> Option<Pressure> {
    let text = read(path)?;
    let mut found = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        let mut stall = Stall::default();
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total = value.parse().ok()?,
                _ => {}
            }
        }
        match kind {
            "some" => found.some = stall,
            "full" => found.full = stall,
            _ => {}
        }
    }
    Some(found)
}

pub(super) fn now_ns() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A small file's text.
pub(super) fn read(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

pub(super) fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// Lines of a name and a number.
pub(super) fn table(path: &Path) -> HashMap<String, u64> {
    let text = read(path).unwrap_or_default();
    let rows = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((name.trim_end_matches(':').to_owned(), value.trim().parse().ok()?))
    });
    rows.collect()
}
