// SPDX-License-Identifier: Apache-2.0
//! `/metrics/cadvisor`: a line for each cgroup under cAdvisor's names and labels.
//!
//! As with the kubelet's own: a pod's cgroup has no container name, its sandbox has the pod's
//! network, and the machine is `id="/"`.

use super::cgroup::{Io, Pressures, Usage};
use super::machine::Machine;
use super::network::{Interface, Traffic};
use super::reading::Reading;
use super::text::{
    COUNTER, GAUGE, NANO, Text, Value, containers, cpu_seconds, float, labels, write,
};
use super::world::{Pod, World};

/// A cgroup's line: its labels and what it uses.
struct Row<'a> {
    labels: String,
    usage: &'a Usage,
    interfaces: &'a [Interface],
    started: f64,
}

/// Families with one line for each cgroup.
const FAMILIES: [(&str, &str, &str, Value); 23] = [
    (
        "container_cpu_user_seconds_total",
        COUNTER,
        "Cumulative user cpu time consumed in seconds.",
        |usage| usage.cpu_user_ns.map(|nanos| float(nanos) * NANO),
    ),
    (
        "container_cpu_system_seconds_total",
        COUNTER,
        "Cumulative system cpu time consumed in seconds.",
        |usage| usage.cpu_system_ns.map(|nanos| float(nanos) * NANO),
    ),
    (
        "container_cpu_cfs_periods_total",
        COUNTER,
        "Number of elapsed enforcement period intervals.",
        |usage| usage.cpu_quota.and(usage.cpu_periods).map(float),
    ),
    (
        "container_cpu_cfs_throttled_periods_total",
        COUNTER,
        "Number of throttled period intervals.",
        |usage| usage.cpu_quota.and(usage.cpu_throttled).map(float),
    ),
    (
        "container_cpu_cfs_throttled_seconds_total",
        COUNTER,
        "Total time duration the container has been throttled.",
        |usage| usage.cpu_quota.and(usage.cpu_throttled_ns).map(|nanos| float(nanos) * NANO),
    ),
    (
        "container_memory_usage_bytes",
        GAUGE,
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |usage| usage.memory.map(float),
    ),
    (
        "container_memory_max_usage_bytes",
        GAUGE,
        "Maximum memory usage recorded in bytes",
        |usage| usage.memory_max.map(float),
    ),
    ("container_memory_working_set_bytes", GAUGE, "Current working set in bytes.", |usage| {
        usage.working_set.map(float)
    }),
    ("container_memory_rss", GAUGE, "Size of RSS in bytes.", |usage| usage.rss.map(float)),
    ("container_memory_cache", GAUGE, "Number of bytes of page cache memory.", |usage| {
        usage.cache.map(float)
    }),
    ("container_memory_mapped_file", GAUGE, "Size of memory mapped files in bytes.", |usage| {
        usage.mapped_file.map(float)
    }),
    ("container_memory_swap", GAUGE, "Container swap usage in bytes.", |usage| {
        usage.swap.map(float)
    }),
    ("container_memory_failcnt", COUNTER, "Number of memory usage hits limits", |usage| {
        usage.memory_failures.map(float)
    }),
    (
        "container_oom_events_total",
        COUNTER,
        "Count of out of memory events observed for the container",
        |usage| usage.oom_kills.map(float),
    ),
    ("container_threads", GAUGE, "Number of threads running inside the container", |usage| {
        usage.pids.map(float)
    }),
    (
        "container_threads_max",
        GAUGE,
        "Maximum number of threads allowed inside the container",
        |usage| usage.pids_limit.map(float),
    ),
    ("container_spec_cpu_period", GAUGE, "CPU period of the container.", |usage| {
        usage.cpu_quota.and(usage.cpu_period).map(float)
    }),
    ("container_spec_cpu_quota", GAUGE, "CPU quota of the container.", |usage| {
        usage.cpu_quota.map(float)
    }),
    ("container_spec_cpu_shares", GAUGE, "CPU share of the container.", |usage| {
        usage.cpu_shares.map(float)
    }),
    ("container_spec_memory_limit_bytes", GAUGE, "Memory limit for the container.", |usage| {
        usage.memory.map(|_| usage.memory_limit.map_or(0.0, float))
    }),
    (
        "container_pressure_cpu_waiting_seconds_total",
        COUNTER,
        "Total time duration tasks in the container have waited due to CPU congestion.",
        |usage| usage.pressure.cpu.map(|one| float(one.some.total) * 1e-6),
    ),
    (
        "container_pressure_memory_stalled_seconds_total",
        COUNTER,
        "Total time duration no tasks in the container could make progress due to memory congestion.",
        |usage| usage.pressure.memory.map(|one| float(one.full.total) * 1e-6),
    ),
    (
        "container_pressure_io_stalled_seconds_total",
        COUNTER,
        "Total time duration no tasks in the container could make progress due to IO congestion.",
        |usage| usage.pressure.io.map(|one| float(one.full.total) * 1e-6),
    ),
];

type Total = fn(&Pressures) -> Option<u64>;

/// Stalls of which only some tasks suffered.
const WAITING: [(&str, Total); 2] = [
    ("container_pressure_memory_waiting_seconds_total", |one| one.memory.map(|one| one.some.total)),
    ("container_pressure_io_waiting_seconds_total", |one| one.io.map(|one| one.some.total)),
];

/// `/metrics/cadvisor`.
pub(super) fn cadvisor(world: &World, reading: &Reading) -> Vec<u8> {
    let mut text = Text(world.before.clone());
    let rows = rows(world, reading);
    machine(&mut text, &reading.machine);
    let name = "container_cpu_usage_seconds_total";
    let found = rows.iter().filter_map(|row| {
        Some((format!("{},cpu=\"total\"", row.labels), cpu_seconds(row.usage)?, row.usage.time_ns))
    });
    write(&mut text, name, COUNTER, "Cumulative cpu time consumed in seconds.", found);
    for (name, kind, help, value) in FAMILIES {
        let found = rows
            .iter()
            .filter_map(|row| Some((row.labels.clone(), value(row.usage)?, row.usage.time_ns)));
        write(&mut text, name, kind, help, found);
    }
    for (name, value) in WAITING {
        let found = rows.iter().filter_map(|row| {
            let total = float(value(&row.usage.pressure)?) * 1e-6;
            Some((row.labels.clone(), total, row.usage.time_ns))
        });
        let help = "Total time duration tasks in the container have waited due to congestion.";
        write(&mut text, name, COUNTER, help, found);
    }
    let found = rows.iter().filter(|row| row.started > 0.0);
    let found = found.map(|row| (row.labels.clone(), row.started, row.usage.time_ns));
    let help = "Start time of the container since unix epoch in seconds.";
    write(&mut text, "container_start_time_seconds", GAUGE, help, found);
    let found = rows.iter().map(|row| {
        (row.labels.clone(), (float(row.usage.time_ns) * NANO).floor(), row.usage.time_ns)
    });
    let help = "Last time a container was seen by the exporter";
    write(&mut text, "container_last_seen", GAUGE, help, found);
    faults(&mut text, &rows);
    networks(&mut text, &rows);
    devices(&mut text, &rows);
    root_file_systems(&mut text, world, reading);
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    write(&mut text, "container_scrape_error", GAUGE, help, [(String::new(), 0.0, 0)]);
    text.done()
}

fn row_labels(path: &str, pod: Option<&Pod>, container: &str, image: &str, id: &str) -> String {
    let path = format!("/{}", path.trim_start_matches('/'));
    labels(&[
        ("container", container),
        ("id", &path),
        ("image", image),
        ("name", id),
        ("namespace", pod.map_or("", |pod| &pod.namespace)),
        ("pod", pod.map_or("", |pod| &pod.name)),
    ])
}

fn rows<'a>(world: &'a World, reading: &'a Reading) -> Vec<Row<'a>> {
    let machine = &reading.machine;
    let mut found = vec![Row {
        labels: row_labels("/", None, "", "", ""),
        usage: &machine.usage,
        interfaces: &reading.interfaces,
        started: machine.booted,
    }];
    let plain = |labels, usage| Row { labels, usage, interfaces: &[], started: 0.0 };
    if let Some((path, usage)) = &reading.all_pods {
        found.push(plain(row_labels(path, None, "", "", ""), usage));
    }
    for (pod, read) in world.pods.iter().zip(&reading.pods) {
        if let Some(usage) = &read.usage {
            found.push(plain(row_labels(&read.path, Some(pod), "", "", ""), usage));
        }
        if let Some((path, usage)) = &read.sandbox {
            let labels = row_labels(path, Some(pod), "", "", &pod.sandbox);
            let (interfaces, started) = (read.interfaces.as_slice(), pod.started);
            found.push(Row { labels, usage, interfaces, started });
        }
        for (one, read) in pod.containers.iter().zip(&read.containers) {
            if let Some((path, usage)) = read {
                let labels = row_labels(path, Some(pod), &one.name, &one.image, &one.id);
                found.push(Row { labels, usage, interfaces: &[], started: one.started });
            }
        }
    }
    found
}

fn machine(text: &mut Text, machine: &Machine) {
    let cores = u64::try_from(machine.cores).map_or(0.0, float);
    for (name, help, value) in [
        ("machine_cpu_cores", "Number of logical CPU cores.", cores),
        (
            "machine_memory_bytes",
            "Amount of memory installed on the machine.",
            float(machine.memory),
        ),
        (
            "machine_swap_bytes",
            "Amount of swap memory available on the machine.",
            float(machine.swap),
        ),
    ] {
        write(text, name, GAUGE, help, [(String::new(), value, 0)]);
    }
}

fn faults(text: &mut Text, rows: &[Row<'_>]) {
    let found = rows.iter().flat_map(|row| {
        let kinds = [("pgfault", row.usage.faults), ("pgmajfault", row.usage.major_faults)];
        let line = |(kind, count): (&str, Option<u64>)| {
            let labels = format!("{},failure_type=\"{kind}\",scope=\"hierarchy\"", row.labels);
            count.map(|count| (labels, float(count), row.usage.time_ns))
        };
        kinds.into_iter().filter_map(line)
    });
    let help = "Cumulative count of memory allocation failures.";
    write(text, "container_memory_failures_total", COUNTER, help, found);
}

fn networks(text: &mut Text, rows: &[Row<'_>]) {
    type Count = fn(&Traffic) -> u64;
    type Direction = fn(&Interface) -> &Traffic;
    let counts: [(&str, Count); 4] = [
        ("bytes", |one| one.bytes),
        ("packets", |one| one.packets),
        ("errors", |one| one.errors),
        ("packets_dropped", |one| one.dropped),
    ];
    let directions: [(&str, Direction); 2] =
        [("receive", |one| &one.received), ("transmit", |one| &one.sent)];
    for (direction, traffic) in directions {
        for (what, count) in counts {
            let found = rows.iter().flat_map(|row| {
                row.interfaces.iter().map(move |one| {
                    let labels = format!("{},{}", row.labels, labels(&[("interface", &one.name)]));
                    (labels, float(count(traffic(one))), row.usage.time_ns)
                })
            });
            let name = format!("container_network_{direction}_{what}_total");
            let help =
                format!("Cumulative count of {} in direction {direction}", what.replace('_', " "));
            write(text, &name, COUNTER, &help, found);
        }
    }
}

fn devices(text: &mut Text, rows: &[Row<'_>]) {
    type Value = fn(&Io) -> u64;
    let families: [(&str, &str, Value); 4] = [
        ("container_fs_reads_bytes_total", "Cumulative count of bytes read", |one| one.read_bytes),
        ("container_fs_writes_bytes_total", "Cumulative count of bytes written", |one| {
            one.write_bytes
        }),
        ("container_fs_reads_total", "Cumulative count of reads completed", |one| one.reads),
        ("container_fs_writes_total", "Cumulative count of writes completed", |one| one.writes),
    ];
    for (name, help, value) in families {
        let found = rows.iter().flat_map(|row| {
            row.usage.io.iter().map(move |one| {
                let labels = format!("{},{}", row.labels, labels(&[("device", &one.device)]));
                (labels, float(value(one)), row.usage.time_ns)
            })
        });
        write(text, name, COUNTER, help, found);
    }
}

fn root_file_systems(text: &mut Text, world: &World, reading: &Reading) {
    let device = world.images.mountpoint.to_string_lossy();
    let device = labels(&[("device", &device)]);
    let node = row_labels("/", None, "", "", "");
    let mut used = Vec::new();
    let mut limits = Vec::new();
    if let Some(data) = reading.images.or(reading.data) {
        used.push((format!("{node},{device}"), float(data.used), 0));
        limits.push((format!("{node},{device}"), float(data.capacity), 0));
    }
    for (pod, one, path, usage) in containers(world, reading) {
        let Some(bytes) = one.rootfs_bytes else { continue };
        let row = row_labels(path, Some(pod), &one.name, &one.image, &one.id);
        used.push((format!("{row},{device}"), float(bytes), usage.time_ns));
        if let Some(images) = reading.images {
            limits.push((format!("{row},{device}"), float(images.capacity), usage.time_ns));
        }
    }
    let help = "Number of bytes that are consumed by the container on this filesystem.";
    write(text, "container_fs_usage_bytes", GAUGE, help, used);
    let help = "Number of bytes that can be consumed by the container on this filesystem.";
    write(text, "container_fs_limit_bytes", GAUGE, help, limits);
}
