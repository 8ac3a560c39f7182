// SPDX-License-Identifier: Apache-2.0
//! Deployments, `ReplicaSets` and `DaemonSets` as kubectl prints them.

use serde_json::Value;
use time::OffsetDateTime;

use super::format::{age, items, labels, number, selector, text};
use super::{AGE, Column, NAME, Printer};

const DESIRED: Column = Column::number("Desired", "Pods wanted.");
const CURRENT: Column = Column::number("Current", "Pods there are.");
const READY: Column = Column::number("Ready", "Pods that are ready.");
const UP_TO_DATE: Column = Column::number("Up-to-date", "Pods of the newest template.");
const AVAILABLE: Column = Column::number("Available", "Pods ready for long enough.");
const CONTAINERS: Column = Column::text("Containers", "Names of the containers.").wide();
const IMAGES: Column = Column::text("Images", "Images of the containers.").wide();
const SELECTOR: Column = Column::text("Selector", "What pods belong to it.").wide();

pub(super) static DEPLOYMENTS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Ready", "Ready pods of those wanted."),
        Column::text("Up-to-date", "Pods of the newest template."),
        Column::text("Available", "Pods ready for long enough."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    deployment,
);

pub(super) static REPLICA_SETS: Printer =
    Printer::new(&[NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR], replica_set);

pub(super) static DAEMON_SETS: Printer = Printer::new(
    &[
        NAME,
        DESIRED,
        CURRENT,
        READY,
        UP_TO_DATE,
        AVAILABLE,
        Column::text("Node Selector", "What nodes it is for."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    daemon_set,
);

fn deployment(object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let desired = number(object, "/spec/replicas");
    let mut cells = vec![
        text(object, "/metadata/name").into(),
        format!("{}/{desired}", number(object, "/status/readyReplicas")).into(),
        number(object, "/status/updatedReplicas").into(),
        number(object, "/status/availableReplicas").into(),
        age(object, now).into(),
    ];
    cells.extend(template(object));
    cells
}

fn replica_set(object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let mut cells = vec![
        text(object, "/metadata/name").into(),
        number(object, "/spec/replicas").into(),
        number(object, "/status/replicas").into(),
        number(object, "/status/readyReplicas").into(),
        age(object, now).into(),
    ];
    cells.extend(template(object));
    cells
}

fn daemon_set(object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let mut cells = vec![
        text(object, "/metadata/name").into(),
        number(object, "/status/desiredNumberScheduled").into(),
        number(object, "/status/currentNumberScheduled").into(),
        number(object, "/status/numberReady").into(),
        number(object, "/status/updatedNumberScheduled").into(),
        number(object, "/status/numberAvailable").into(),
        labels(object, "/spec/template/spec/nodeSelector").into(),
        age(object, now).into(),
    ];
    cells.extend(template(object));
    cells
}

/// Containers, images and selector.
fn template(object: &Value) -> [Value; 3] {
    let containers = items(object, "/spec/template/spec/containers");
    let all = |field: &str| {
        containers.iter().map(|container| text(container, field)).collect::<Vec<_>>().join(",")
    };
    [all("/name").into(), all("/image").into(), selector(object, "/spec/selector").into()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::printed;

    fn cells(resource: &str, status: &serde_json::Value) -> Vec<String> {
        let object = json!({
            "metadata": {"name": "web", "creationTimestamp": "2026-11-23T11:00:00Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"nodeSelector": {"a": "b"}, "containers": [
                    {"name": "x", "image": "i:1"}, {"name": "y", "image": "j:2"}]}}},
            "status": status,
        });
        printed("apps", resource, &object).into_iter().map(|(_, cell)| cell).collect()
    }

    #[test]
    fn a_deployment_shows_ready_of_desired() {
        let status = json!({"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1});
        let want = ["web", "2/3", "3", "1", "60m", "x,y", "i:1,j:2", "app=web"];
        assert_eq!(cells("deployments", &status), want);
    }

    #[test]
    fn a_replica_set_shows_its_counts() {
        let want = ["web", "3", "2", "1", "60m", "x,y", "i:1,j:2", "app=web"];
        assert_eq!(cells("replicasets", &json!({"replicas": 2, "readyReplicas": 1})), want);
    }

    #[test]
    fn a_daemon_set_shows_its_nodes() {
        let status = json!({"desiredNumberScheduled": 5, "currentNumberScheduled": 4,
            "numberReady": 3, "updatedNumberScheduled": 2, "numberAvailable": 1});
        let want = ["web", "5", "4", "3", "2", "1", "a=b", "60m", "x,y", "i:1,j:2", "app=web"];
        assert_eq!(cells("daemonsets", &status), want);
    }
}
