// SPDX-License-Identifier: Apache-2.0
//! `metrics.k8s.io`, which `kubectl top` and autoscalers read: asked of nodes when somebody asks here.
//!
//! No node is asked on its own. One that was asked is not asked again for a while; a rate needs two
//! samples, so that the first answer about a node takes a second. A node that cannot be reached
//! is left out, and so are its pods, as metrics-server does.

mod samples;

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use http::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Body, JSON, answer};
use super::face::Face;
use super::path::Target;
use super::proxy::Nodes;
use super::query::{ListOptions, Query};
use super::read;
use super::status::Failure;
use crate::store::{Key, Listed, Store};
use crate::{Error, Kind};

pub(super) use samples::Samples;
use samples::{Usage, Used};

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "metrics.k8s.io/v1beta1";
/// Nodes asked at a time.
const PARALLEL: usize = 16;

/// Whether a request is about usage.
pub(super) fn is_usage(target: &Target) -> bool {
    target.group == GROUP && target.subresource.is_empty()
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    creation_timestamp: Value,
    #[serde(default)]
    labels: Value,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
}

/// Answers a GET or LIST.
pub(super) async fn serve(
    samples: &Samples,
    nodes: &Nodes,
    store: &Store,
    target: &Target,
    query: &Query,
) -> Result<Response<Body>, Failure> {
    let is_pods = target.resource == "pods";
    let objects = objects(store, target, query)?;
    let of = |one: &Object| {
        if is_pods { one.spec.node_name.clone() } else { one.metadata.name.clone() }
    };
    let names: HashSet<String> = objects.iter().map(of).filter(|name| !name.is_empty()).collect();
    let asked = stream::iter(names)
        .map(|node| async move {
            let found = samples.of(nodes, store, &node).await;
            (node, found)
        })
        .buffer_unordered(PARALLEL);
    let mut known: Vec<(String, Arc<Usage>)> = Vec::new();
    let mut away = String::new();
    futures_util::pin_mut!(asked);
    while let Some((node, found)) = asked.next().await {
        match found {
            Ok(usage) => known.push((node, usage)),
            Err(failure) => away = failure.message,
        }
    }
    let items = objects.iter().filter_map(|one| {
        let node = of(one);
        let (_, usage) = known.iter().find(|(name, _)| *name == node)?;
        if is_pods { pod(one, usage) } else { Some(machine(one, usage)) }
    });
    let mut items: Vec<Value> = items.collect();
    if target.name.is_empty() {
        let kind = if is_pods { "PodMetricsList" } else { "NodeMetricsList" };
        let list = json!({"kind": kind, "apiVersion": VERSION, "metadata": {}, "items": items});
        return Ok(answer(200, JSON, list.to_string()));
    }
    let Some(found) = items.pop() else {
        log::debug!("no metrics of {} {:?}: {away}", target.resource, target.name);
        return Err(Failure::not_found(&target.resource, GROUP, &target.name));
    };
    Ok(answer(200, JSON, found.to_string()))
}

/// The nodes or pods that are asked about.
fn objects(store: &Store, target: &Target, query: &Query) -> Result<Vec<Object>, Failure> {
    let core = Target { group: String::new(), version: "v1".into(), ..target.clone() };
    if !target.name.is_empty() {
        let key = Key::new("", &core.resource, &core.namespace, &core.name);
        let found = store.get(&key)?;
        let found = found.ok_or_else(|| Failure::not_found(&core.resource, GROUP, &core.name))?;
        return Ok(vec![parse(&found.value)?]);
    }
    let options = ListOptions::parse(query)?;
    let page = read::page(store, &core, &options, Face::default())?;
    page.items.iter().map(|item: &Listed| parse(&item.value)).collect()
}

fn parse(value: &[u8]) -> Result<Object, Failure> {
    serde_json::from_slice(value)
        .map_err(|error| Error::new(Kind::Internal, format!("stored object: {error}")).into())
}

fn metadata(one: &Object) -> Value {
    let Metadata { name, namespace, creation_timestamp, labels } = &one.metadata;
    let mut found = json!({"name": name, "creationTimestamp": creation_timestamp});
    if !namespace.is_empty() {
        found["namespace"] = namespace.as_str().into();
    }
    if !labels.is_null() {
        found["labels"] = labels.clone();
    }
    found
}

fn machine(one: &Object, usage: &Usage) -> Value {
    json!({
        "kind": "NodeMetrics",
        "apiVersion": VERSION,
        "metadata": metadata(one),
        "timestamp": usage.time,
        "window": usage.window,
        "usage": amounts(&usage.node),
    })
}

fn pod(one: &Object, usage: &Usage) -> Option<Value> {
    let key = (one.metadata.namespace.clone(), one.metadata.name.clone());
    let containers = usage.pods.get(&key).filter(|containers| !containers.is_empty())?;
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, used)| json!({"name": name, "usage": amounts(used)}))
        .collect();
    Some(json!({
        "kind": "PodMetrics",
        "apiVersion": VERSION,
        "metadata": metadata(one),
        "timestamp": usage.time,
        "window": usage.window,
        "containers": containers,
    }))
}

fn amounts(used: &Used) -> Value {
    json!({"cpu": format!("{}n", used.cpu), "memory": format!("{}Ki", used.memory >> 10)})
}
