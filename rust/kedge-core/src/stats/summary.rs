// SPDX-License-Identifier: Apache-2.0
//! The kubelet's Summary API (`/stats/summary`, stats/v1alpha1).

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::What;
use super::cgroup::{Pressure, Stall, Usage};
use super::disk::{FileSystem, Taken};
use super::network::Interface;
use super::reading::{PodReading, Rates, Reading};
use super::world::{Container, Pod, Told, World};

/// The whole summary.
pub(super) fn summary(world: &World, reading: &Reading, rates: &mut Rates) -> Value {
    let is_short = world.what == What::SummaryOfCpuAndMemory;
    let machine = &reading.machine;
    let mut node = Map::new();
    node.insert("nodeName".into(), world.node.clone().into());
    node.insert("startTime".into(), seconds(machine.booted));
    used(&mut node, "/", &machine.usage, rates, Some(machine.memory), machine.swap);
    if let Some((path, usage)) = &reading.all_pods {
        let mut pods = Map::from_iter([("name".to_owned(), Value::from("pods"))]);
        used(&mut pods, path, usage, rates, Some(machine.memory), machine.swap);
        node.insert("systemContainers".into(), json!([pods]));
    }
    if !is_short {
        whole_node(&mut node, world, reading);
    }
    let pods: Vec<Value> = world
        .pods
        .iter()
        .zip(&reading.pods)
        .map(|(pod, read)| pod_summary(pod, read, reading, rates, is_short))
        .collect();
    rates.done();
    json!({"node": node, "pods": pods})
}

fn whole_node(node: &mut Map<String, Value>, world: &World, reading: &Reading) {
    let machine = &reading.machine;
    let at = nanos(machine.usage.time_ns);
    node.insert("network".into(), network(&reading.interfaces, &at));
    node.insert("fs".into(), file_system(reading.data, None, &at));
    let images = world.images.used_bytes.map(|bytes| Taken { bytes, inodes: 0 });
    let images = json!({
        "imageFs": file_system(reading.images, images, &at),
        "containerFs": file_system(reading.images, None, &at),
    });
    node.insert("runtime".into(), images);
    let mut limit = Map::from_iter([("time".to_owned(), at)]);
    put(&mut limit, "maxpid", machine.max_pids);
    put(&mut limit, "curproc", machine.usage.pids);
    node.insert("rlimit".into(), limit.into());
}

fn pod_summary(
    pod: &Pod,
    read: &PodReading,
    reading: &Reading,
    rates: &mut Rates,
    is_short: bool,
) -> Value {
    let mut found = Map::new();
    let reference = json!({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid});
    found.insert("podRef".into(), reference);
    found.insert("startTime".into(), seconds(pod.started));
    let mut containers = Vec::new();
    for ((one, usage), logs) in pod.containers.iter().zip(&read.containers).zip(&read.logs) {
        containers.push(container(one, usage.as_ref(), *logs, reading, rates, is_short));
    }
    found.insert("containers".into(), containers.into());
    let Some(usage) = &read.usage else { return found.into() };
    used(&mut found, &read.path, usage, rates, usage.memory_limit, 0);
    if is_short {
        return found.into();
    }
    let at = nanos(usage.time_ns);
    if !read.interfaces.is_empty() {
        found.insert("network".into(), network(&read.interfaces, &at));
    }
    if let Some(pids) = usage.pids {
        found.insert("process_stats".into(), json!({"process_count": pids}));
    }
    let mut all = Taken::default();
    let mut volumes = Vec::new();
    for (volume, read) in pod.volumes.iter().zip(&read.volumes) {
        let mut one = figures(read.figures, read.taken, &at);
        if let Some(map) = one.as_object_mut() {
            map.insert("name".into(), volume.name.clone().into());
            if !volume.claim.is_empty() {
                let claim = json!({"name": volume.claim, "namespace": pod.namespace});
                map.insert("pvcRef".into(), claim);
            }
        }
        add(&mut all, read.taken);
        volumes.push(one);
    }
    if !volumes.is_empty() {
        found.insert("volume".into(), volumes.into());
    }
    for (one, logs) in pod.containers.iter().zip(&read.logs) {
        add(&mut all, *logs);
        add(&mut all, rootfs(one));
    }
    found.insert("ephemeral-storage".into(), file_system(reading.data, Some(all), &at));
    found.into()
}

fn container(
    one: &Container,
    read: Option<&(String, Usage)>,
    logs: Option<Taken>,
    reading: &Reading,
    rates: &mut Rates,
    is_short: bool,
) -> Value {
    let mut found = Map::from_iter([
        ("name".to_owned(), Value::from(one.name.clone())),
        ("startTime".to_owned(), seconds(one.started)),
    ]);
    let Some((path, usage)) = read else { return found.into() };
    used(&mut found, path, usage, rates, usage.memory_limit, 0);
    if !is_short {
        let at = nanos(usage.time_ns);
        found.insert("rootfs".into(), file_system(reading.images, rootfs(one), &at));
        found.insert("logs".into(), file_system(reading.data, logs, &at));
    }
    found.into()
}

fn rootfs(one: &Container) -> Option<Taken> {
    one.rootfs_bytes.map(|bytes| Taken { bytes, inodes: one.rootfs_inodes.unwrap_or(0) })
}

fn add(all: &mut Taken, more: Option<Taken>) {
    let more = more.unwrap_or_default();
    all.bytes += more.bytes;
    all.inodes += more.inodes;
}

/// CPU, memory, swap and stalls of a cgroup.
fn used(
    into: &mut Map<String, Value>,
    path: &str,
    usage: &Usage,
    rates: &mut Rates,
    memory: Option<u64>,
    swap: u64,
) {
    let at = nanos(usage.time_ns);
    let mut cpu = Map::from_iter([("time".to_owned(), at.clone())]);
    put(&mut cpu, "usageNanoCores", rates.of(path, usage));
    put(&mut cpu, "usageCoreNanoSeconds", usage.cpu_ns);
    stalls(&mut cpu, usage.pressure.cpu);
    into.insert("cpu".into(), cpu.into());
    let mut found = Map::from_iter([("time".to_owned(), at.clone())]);
    let available = memory.map(|all| all.saturating_sub(usage.working_set.unwrap_or(0)));
    put(&mut found, "availableBytes", available);
    put(&mut found, "usageBytes", usage.memory);
    put(&mut found, "workingSetBytes", usage.working_set);
    put(&mut found, "rssBytes", usage.rss);
    put(&mut found, "pageFaults", usage.faults);
    put(&mut found, "majorPageFaults", usage.major_faults);
    stalls(&mut found, usage.pressure.memory);
    into.insert("memory".into(), found.into());
    if let Some(bytes) = usage.swap {
        let mut found = Map::from_iter([("time".to_owned(), at.clone())]);
        put(&mut found, "swapAvailableBytes", Some(swap.saturating_sub(bytes)));
        put(&mut found, "swapUsageBytes", Some(bytes));
        into.insert("swap".into(), found.into());
    }
    if let Some(pressure) = usage.pressure.io {
        let mut found = Map::from_iter([("time".to_owned(), at)]);
        stalls(&mut found, Some(pressure));
        into.insert("io".into(), found.into());
    }
}

fn stalls(into: &mut Map<String, Value>, pressure: Option<Pressure>) {
    let one = |stall: Stall| json!({"total": stall.total, "avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300});
    if let Some(Pressure { some, full }) = pressure {
        into.insert("psi".into(), json!({"full": one(full), "some": one(some)}));
    }
}

fn network(interfaces: &[Interface], at: &Value) -> Value {
    let one = |one: &Interface| {
        json!({
            "name": one.name,
            "rxBytes": one.received.bytes,
            "rxErrors": one.received.errors,
            "txBytes": one.sent.bytes,
            "txErrors": one.sent.errors,
        })
    };
    let mut found = Map::from_iter([("time".to_owned(), at.clone())]);
    let main = interfaces.iter().find(|one| one.name == "eth0").or_else(|| interfaces.first());
    if let Some(Value::Object(main)) = main.map(one) {
        found.extend(main);
    }
    found.insert("interfaces".into(), interfaces.iter().map(one).collect());
    found.into()
}

fn file_system(of: Option<FileSystem>, taken: Option<Taken>, at: &Value) -> Value {
    figures(of.map_or_else(Told::default, Told::from), taken, at)
}

fn figures(of: Told, taken: Option<Taken>, at: &Value) -> Value {
    let mut found = Map::from_iter([("time".to_owned(), at.clone())]);
    put(&mut found, "availableBytes", of.bytes_available);
    put(&mut found, "capacityBytes", of.bytes_total);
    put(&mut found, "usedBytes", taken.map(|one| one.bytes).or(of.bytes_used));
    put(&mut found, "inodesFree", of.inodes_available);
    put(&mut found, "inodes", of.inodes_total);
    put(&mut found, "inodesUsed", taken.map(|one| one.inodes).or(of.inodes_used));
    found.into()
}

fn put(map: &mut Map<String, Value>, name: &str, value: Option<u64>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value.into());
    }
}

fn nanos(at: u64) -> Value {
    format(OffsetDateTime::from_unix_timestamp_nanos(i128::from(at)).ok())
}

#[allow(clippy::cast_possible_truncation, reason = "whole seconds are what the API has")]
fn seconds(at: f64) -> Value {
    format(OffsetDateTime::from_unix_timestamp(at as i64).ok())
}

fn format(at: Option<OffsetDateTime>) -> Value {
    at.and_then(|at| at.format(&Rfc3339).ok()).map_or(Value::Null, Value::from)
}
