// SPDX-License-Identifier: Apache-2.0
//! Samples of nodes' `/stats/summary`, kept for as long as somebody asks, and the rates between two.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::kubeapi::proxy::{self, Nodes};
use crate::kubeapi::status::Failure;
use crate::store::Store;

const PATH: &str = "/stats/summary?only_cpu_and_memory=true";
/// The most bytes of a node's answer: some thousand containers.
const MAX_SUMMARY: usize = 4 << 20;
const DEADLINE: Duration = Duration::from_secs(10);
/// An answer is given again for so long.
const FRESH: Duration = Duration::from_secs(15);
/// After so long without a question a node's samples are forgotten.
const KEPT: Duration = Duration::from_secs(300);
/// Between the first two samples of a node.
const FIRST_WINDOW: Duration = Duration::from_secs(1);

/// What a node and its pods use.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) time: String,
    pub(super) window: String,
    pub(super) node: Used,
    /// Containers by namespace and name of their pod.
    pub(super) pods: HashMap<(String, String), Vec<(String, Used)>>,
}

/// Nanoseconds of CPU time a second, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) cpu: u64,
    pub(super) memory: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    node: Counted,
    pods: Vec<PodCounted>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodCounted {
    pod_ref: PodRef,
    containers: Vec<Counted>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodRef {
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Counted {
    name: String,
    start_time: String,
    cpu: Cpu,
    memory: Memory,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Cpu {
    time: String,
    usage_core_nano_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Memory {
    working_set_bytes: Option<u64>,
}

#[derive(Default)]
struct Entry {
    sample: Option<(Summary, Instant)>,
    answer: Option<(Arc<Usage>, Instant)>,
}

/// A node's entry, and when it was last asked for.
type Kept = (Arc<Mutex<Entry>>, Instant);

/// Samples by node.
#[derive(Default)]
pub(in crate::kubeapi) struct Samples {
    entries: parking_lot::Mutex<HashMap<String, Kept>>,
}

impl Samples {
    /// What `node` uses; who asks at the same time waits for the same answer.
    pub(super) async fn of(
        &self,
        nodes: &Nodes,
        store: &Store,
        node: &str,
    ) -> Result<Arc<Usage>, Failure> {
        let entry = self.entry(node);
        let mut entry = entry.lock().await;
        if let Some((usage, at)) = &entry.answer
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(usage));
        }
        let first = match entry.sample.take() {
            Some((sample, at)) if at.elapsed() >= FIRST_WINDOW && at.elapsed() < KEPT => sample,
            _ => {
                let sample = fetch(nodes, store, node).await?;
                tokio::time::sleep(FIRST_WINDOW).await;
                sample
            }
        };
        let last = fetch(nodes, store, node).await?;
        let usage = Arc::new(rates(&first, &last));
        entry.sample = Some((last, Instant::now()));
        entry.answer = Some((Arc::clone(&usage), Instant::now()));
        Ok(usage)
    }

    fn entry(&self, node: &str) -> Arc<Mutex<Entry>> {
        let mut entries = self.entries.lock();
        entries.retain(|_, (_, asked)| asked.elapsed() < KEPT);
        let (entry, asked) =
            entries.entry(node.to_owned()).or_insert_with(|| (Arc::default(), Instant::now()));
        *asked = Instant::now();
        Arc::clone(entry)
    }
}

async fn fetch(nodes: &Nodes, store: &Store, node: &str) -> Result<Summary, Failure> {
    let asked = proxy::ask(nodes, store, node, PATH, MAX_SUMMARY);
    let late = || Failure::new(504, "Timeout", format!("node {node} did not answer in time"));
    let body = tokio::time::timeout(DEADLINE, asked).await.map_err(|_late| late())??;
    serde_json::from_slice(&body).map_err(|error| {
        Failure::new(502, "InternalError", format!("summary of node {node}: {error}"))
    })
}

/// What was used between two samples.
fn rates(first: &Summary, last: &Summary) -> Usage {
    let mut earlier = HashMap::new();
    for pod in &first.pods {
        for one in &pod.containers {
            earlier.insert((pod.pod_ref.uid.as_str(), one.name.as_str()), one);
        }
    }
    let mut pods = HashMap::new();
    for pod in &last.pods {
        let PodRef { name, namespace, uid } = &pod.pod_ref;
        let found = pod.containers.iter().filter_map(|one| {
            let before = earlier.get(&(uid.as_str(), one.name.as_str())).copied();
            // One that was started again counts from its start.
            let before = before.filter(|before| before.start_time == one.start_time);
            Some((one.name.clone(), used(before, one)?))
        });
        pods.insert((namespace.clone(), name.clone()), found.collect());
    }
    let window = seconds(&first.node.cpu.time, &last.node.cpu.time).unwrap_or(0.0);
    Usage {
        time: moment(&last.node.cpu.time)
            .and_then(|at| at.replace_nanosecond(0).ok()?.format(&Rfc3339).ok())
            .unwrap_or_default(),
        window: format!("{window:.3}s"),
        node: used(Some(&first.node), &last.node).unwrap_or_default(),
        pods,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a rate in nanoseconds a second is far below 2^52"
)]
fn used(before: Option<&Counted>, now: &Counted) -> Option<Used> {
    let memory = now.memory.working_set_bytes?;
    let cpu = now.cpu.usage_core_nano_seconds?;
    let (since, spent) = match before {
        Some(before) => (&before.cpu.time, before.cpu.usage_core_nano_seconds?),
        None => (&now.start_time, 0),
    };
    let window = seconds(since, &now.cpu.time).filter(|window| *window > 0.0)?;
    Some(Used { cpu: (cpu.saturating_sub(spent) as f64 / window) as u64, memory })
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

fn seconds(from: &str, until: &str) -> Option<f64> {
    Some((moment(until)? - moment(from)?).as_seconds_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(at: u32, node: u64, pods: &str) -> Summary {
        let text = format!(
            r#"{{"node":{{"nodeName":"n","cpu":{{"time":"2026-01-01T00:00:{at:02}Z","usageCoreNanoSeconds":{node}}},
            "memory":{{"workingSetBytes":4096}}}},"pods":[{pods}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn pod(started: u32, at: u32, cpu: u64) -> String {
        format!(
            r#"{{"podRef":{{"name":"p","namespace":"s","uid":"u"}},"containers":[{{"name":"c",
            "startTime":"2026-01-01T00:00:{started:02}Z","cpu":{{"time":"2026-01-01T00:00:{at:02}Z",
            "usageCoreNanoSeconds":{cpu}}},"memory":{{"workingSetBytes":2048}}}},{{"name":"silent"}}]}}"#
        )
    }

    fn container(usage: &Usage) -> Vec<(String, Used)> {
        usage.pods[&("s".to_owned(), "p".to_owned())].clone()
    }

    #[test]
    fn a_rate_is_what_was_used_between_two_samples() {
        let first = summary(10, 1_000, &pod(1, 10, 500));
        let last = summary(20, 11_000, &pod(1, 20, 20_500));
        let usage = rates(&first, &last);
        assert_eq!(
            (usage.time.as_str(), usage.window.as_str()),
            ("2026-01-01T00:00:20Z", "10.000s")
        );
        assert_eq!(usage.node, Used { cpu: 1_000, memory: 4096 });
        let wanted = vec![("c".to_owned(), Used { cpu: 2_000, memory: 2048 })];
        assert_eq!(container(&usage), wanted, "what says nothing is left out");
    }

    #[test]
    fn a_container_that_was_started_again_counts_from_its_start() {
        let first = summary(10, 0, &pod(1, 10, 9_000_000));
        let last = summary(20, 0, &pod(15, 20, 5_000));
        assert_eq!(container(&rates(&first, &last))[0].1.cpu, 1_000);
    }
}
