// SPDX-License-Identifier: Apache-2.0
//! Prometheus text (exposition format 0.0.4) under the names of the kubelet and of cAdvisor.

use std::fmt::Write as _;

use super::cgroup::Usage;
use super::reading::Reading;
use super::world::{Container, Pod, Told, World};

/// What the texts are.
pub(super) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
pub(super) const COUNTER: &str = "counter";
pub(super) const GAUGE: &str = "gauge";
pub(super) const NANO: f64 = 1e-9;

/// Text under construction.
pub(super) struct Text(pub(super) String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A String takes everything.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One line; `labels` are written already, `at` is in nanoseconds and 0 for none.
    fn sample(&mut self, name: &str, labels: &str, value: f64, at: u64) {
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = write!(self.0, "{name}{braces} {value}");
        if at > 0 {
            let _ = write!(self.0, " {}", at / 1_000_000);
        }
        self.0.push('\n');
    }

    /// Its bytes.
    pub(super) fn done(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// Labels as text, with their values escaped.
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
    let mut found = String::new();
    for (name, value) in pairs {
        let comma = if found.is_empty() { "" } else { "," };
        let _ = write!(found, "{comma}{name}=\"");
        for one in value.chars() {
            match one {
                '\\' => found.push_str("\\\\"),
                '"' => found.push_str("\\\""),
                '\n' => found.push_str("\\n"),
                other => found.push(other),
            }
        }
        found.push('"');
    }
    found
}

#[allow(clippy::cast_precision_loss, reason = "the format's numbers are floats")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

pub(super) fn cpu_seconds(usage: &Usage) -> Option<f64> {
    usage.cpu_ns.map(|nanos| float(nanos) * NANO)
}

pub(super) type Value = fn(&Usage) -> Option<f64>;

// /metrics/resource

/// `/metrics/resource`, as the kubelet has it: what metrics-server reads.
pub(super) fn resource(world: &World, reading: &Reading) -> Vec<u8> {
    let mut text = Text(world.before.clone());
    let families: [(&str, &str, &str, Value); 3] = [
        ("cpu_usage_seconds_total", COUNTER, "Cumulative cpu time in core-seconds", cpu_seconds),
        ("memory_working_set_bytes", GAUGE, "Current working set in bytes", |usage| {
            usage.working_set.map(float)
        }),
        ("swap_usage_bytes", GAUGE, "Current swap usage in bytes", |usage| usage.swap.map(float)),
    ];
    for (name, kind, help, value) in families {
        let containers = containers(world, reading);
        let rows = containers.filter_map(|(pod, one, _, usage)| {
            let pairs =
                [("container", &*one.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)];
            Some((labels(&pairs), value(usage)?, usage.time_ns))
        });
        write(
            &mut text,
            &format!("container_{name}"),
            kind,
            &format!("{help} of the container"),
            rows,
        );
        let usage = &reading.machine.usage;
        let rows = value(usage).map(|found| (String::new(), found, usage.time_ns));
        write(&mut text, &format!("node_{name}"), kind, &format!("{help} of the node"), rows);
        let rows = world.pods.iter().zip(&reading.pods).filter_map(|(pod, read)| {
            let usage = read.usage.as_ref()?;
            let pairs = [("namespace", &*pod.namespace), ("pod", &*pod.name)];
            Some((labels(&pairs), value(usage)?, usage.time_ns))
        });
        write(&mut text, &format!("pod_{name}"), kind, &format!("{help} of the pod"), rows);
    }
    let rows = containers(world, reading).map(|(pod, one, _, _)| {
        let pairs =
            [("container", &*one.name), ("namespace", &*pod.namespace), ("pod", &*pod.name)];
        (labels(&pairs), one.started, 0)
    });
    let help = "Start time of the container since unix epoch in seconds";
    write(&mut text, "container_start_time_seconds", GAUGE, help, rows);
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    write(&mut text, "resource_scrape_error", GAUGE, help, [(String::new(), 0.0, 0)]);
    text.done()
}

pub(super) fn write(
    text: &mut Text,
    name: &str,
    kind: &str,
    help: &str,
    rows: impl IntoIterator<Item = (String, f64, u64)>,
) {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return;
    }
    text.family(name, kind, help);
    for (labels, value, at) in rows {
        text.sample(name, &labels, value, at);
    }
}

/// Containers whose cgroup was read.
pub(super) fn containers<'a>(
    world: &'a World,
    reading: &'a Reading,
) -> impl Iterator<Item = (&'a Pod, &'a Container, &'a str, &'a Usage)> {
    let pods = world.pods.iter().zip(&reading.pods);
    pods.flat_map(|(pod, read)| {
        let found = pod.containers.iter().zip(&read.containers);
        found.filter_map(move |(one, usage)| {
            usage.as_ref().map(|(path, usage)| (pod, one, path.as_str(), usage))
        })
    })
}

// /metrics

/// The volumes of claims, as the kubelet's `/metrics` has them.
pub(super) fn volumes(world: &World, reading: &Reading) -> Vec<u8> {
    type Value = fn(&Told) -> Option<u64>;
    let mut text = Text(world.before.clone());
    let families: [(&str, &str, Value); 6] = [
        ("capacity_bytes", "Capacity in bytes of the volume", |one| one.bytes_total),
        ("available_bytes", "Number of available bytes in the volume", |one| one.bytes_available),
        ("used_bytes", "Number of used bytes in the volume", |one| one.bytes_used),
        ("inodes", "Maximum number of inodes in the volume", |one| one.inodes_total),
        ("inodes_free", "Number of free inodes in the volume", |one| one.inodes_available),
        ("inodes_used", "Number of used inodes in the volume", |one| one.inodes_used),
    ];
    for (name, help, value) in families {
        let pods = world.pods.iter().zip(&reading.pods);
        let found = pods.flat_map(|(pod, read)| {
            let volumes = pod.volumes.iter().zip(&read.volumes);
            volumes.filter(|(one, _)| !one.claim.is_empty()).filter_map(move |(one, read)| {
                let pairs =
                    [("namespace", &*pod.namespace), ("persistentvolumeclaim", &*one.claim)];
                Some((labels(&pairs), float(value(&read.figures)?), 0))
            })
        });
        write(&mut text, &format!("kubelet_volume_stats_{name}"), GAUGE, help, found);
    }
    text.done()
}
