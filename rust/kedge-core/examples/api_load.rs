// SPDX-License-Identifier: Apache-2.0
//! Loads an API server over HTTPS: creates, status patches, gets, lists.
//!
//! `api_load SERVER DIR OPERATION COUNT CLIENTS [PREFIX OBJECTS]`, where DIR has ca.crt and either client.crt
//! and client.key or a token; gets ask for PREFIX and a number of six digits below OBJECTS.
//! Prints one JSON line: seconds, answers per second, and latencies in milliseconds. Any answer that
//! is no success ends it. `bench/apiserver.py` runs it beside the server, so it is kept light.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kedge_core::kube::{Ask, Client, Options};
use serde_json::json;
use tokio::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const TIMEOUT: Duration = Duration::from_secs(60);
const PODS: &str = "/api/v1/namespaces/default/pods";

#[derive(Clone, Copy)]
enum Operation {
    Create,
    Patch,
    Get,
    List,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, directory, operation, count, clients, objects @ ..] = arguments.as_slice() else {
        return Err(
            "usage: api_load SERVER DIR create|patch|get|list COUNT CLIENTS [PREFIX OBJECTS]"
                .into(),
        );
    };
    let objects = match objects {
        [prefix, number] => (prefix.clone(), number.parse()?),
        _ => (format!("{PODS}/load-"), 10_000),
    };
    let read = |name: &str| std::fs::read_to_string(Path::new(directory).join(name));
    let token = read("token").unwrap_or_default();
    let own = |name: &str| if token.is_empty() { read(name) } else { Ok(String::new()) };
    let options = Options {
        server: server.clone(),
        ca: read("ca.crt")?,
        certificate: own("client.crt")?,
        key: own("client.key")?,
        server_name: String::new(),
    };
    let operation = match operation.as_str() {
        "create" => Operation::Create,
        "patch" => Operation::Patch,
        "get" => Operation::Get,
        "list" => Operation::List,
        other => return Err(format!("unknown operation: {other}").into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(&options, token.trim())?;
    let report =
        runtime.block_on(load(client, operation, count.parse()?, clients.parse()?, objects))?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

async fn load(
    client: Client,
    operation: Operation,
    count: usize,
    clients: usize,
    objects: (String, usize),
) -> Outcome<serde_json::Value> {
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let workers: Vec<_> = (0..clients)
        .map(|_| {
            let (client, next, objects) = (client.clone(), Arc::clone(&next), objects.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok::<_, Box<dyn Error + Send + Sync>>(taken);
                    }
                    let sent = Instant::now();
                    let answer = client.request(ask(operation, number, &objects)?, TIMEOUT).await?;
                    if !(200..300).contains(&answer.status) {
                        let said = String::from_utf8_lossy(&answer.body);
                        return Err(format!("answer {}: {said:.300}", answer.status).into());
                    }
                    taken.push((sent.elapsed().as_secs_f64() * 1e3, answer.body.len()));
                }
            })
        })
        .collect();
    let mut taken = Vec::with_capacity(count);
    for worker in workers {
        taken.extend(worker.await??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let bytes: usize = taken.iter().map(|(_, bytes)| bytes).sum();
    let mut latencies: Vec<f64> = taken.into_iter().map(|(latency, _)| latency).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |percent: usize| latencies.get((latencies.len() * percent / 100).min(count - 1));
    let number = u32::try_from(count)?;
    Ok(json!({
        "count": count,
        "seconds": seconds,
        "per_second": f64::from(number) / seconds,
        "p50_ms": at(50),
        "p99_ms": at(99),
        "max_ms": latencies.last(),
        "bytes": bytes,
    }))
}

fn ask(operation: Operation, number: usize, objects: &(String, usize)) -> Outcome<Ask> {
    let name = format!("load-{number:06}");
    let made = match operation {
        Operation::Create => {
            Ask::new("POST", PODS.to_owned(), "application/json".into(), pod(&name))
        }
        Operation::Patch => Ask::new(
            "PATCH",
            format!("{PODS}/{name}/status"),
            "application/strategic-merge-patch+json".into(),
            status(number),
        ),
        Operation::Get => Ok(Ask::get(format!("{}{:06}", objects.0, number % objects.1))),
        Operation::List => Ok(Ask::get(PODS.to_owned())),
    };
    Ok(made?)
}

fn pod(name: &str) -> Vec<u8> {
    let variable =
        |index: usize| json!({"name": format!("SETTING_{index}"), "value": "some-value"});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app": "load", "tier": "bench", "pod-template-hash": "5d59d67564"},
            "annotations": {"example.org/note": "made by the load generator"},
        },
        "spec": {
            "containers": [{
                "name": "app",
                "image": "registry.example.org/team/application:1.2.3",
                "command": ["/bin/sh", "-c", "exec sleep 3600"],
                "env": (0..6).map(variable).collect::<Vec<_>>(),
                "ports": [{"name": "http", "containerPort": 8080}],
                "resources": {"requests": {"cpu": "10m", "memory": "16Mi"},
                    "limits": {"cpu": "100m", "memory": "64Mi"}},
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 10},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "nodeName": "load-node",
        },
    })
    .to_string()
    .into_bytes()
}

fn status(number: usize) -> Vec<u8> {
    let at = "2026-11-23T12:00:00Z";
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
    let conditions = ["Initialized", "Ready", "ContainersReady"].map(condition);
    json!({"status": {
        "phase": "Running",
        "hostIP": "192.0.2.1",
        "podIP": format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255),
        "startTime": at,
        "conditions": conditions,
        "containerStatuses": [{
            "name": "app",
            "image": "registry.example.org/team/application:1.2.3",
            "imageID": "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "containerID": format!("containerd://{number:064}"),
            "ready": true,
            "started": true,
            "restartCount": 0,
            "state": {"running": {"startedAt": at}},
            "lastState": {},
        }],
    }})
    .to_string()
    .into_bytes()
}
