// SPDX-License-Identifier: Apache-2.0
//! Deployments, sets of pods and their revisions as kubectl prints them.

use serde_json::Value;
use time::OffsetDateTime;

use super::format::{NONE, age, items, labels, number, selector, text};
use super::{AGE, Column, NAME, Printer};

const DESIRED: Column = Column::number("Desired", "Pods wanted.");
const CURRENT: Column = Column::number("Current", "Pods there are.");
const READY: Column = Column::number("Ready", "Pods that are ready.");
const UP_TO_DATE: Column = Column::number("Up-to-date", "Pods of the newest template.");
const AVAILABLE: Column = Column::number("Available", "Pods ready for long enough.");
pub(super) const CONTAINERS: Column = Column::text("Containers", "Names of the containers.").wide();
pub(super) const IMAGES: Column = Column::text("Images", "Images of the containers.").wide();
pub(super) const SELECTOR: Column = Column::text("Selector", "What pods belong to it.").wide();

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

pub(super) static CONTROLLERS: Printer = Printer::new(
    &[NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR],
    |object, now| {
        let mut cells = replica_set(object, now);
        cells.pop();
        cells.push(labels(object, "/spec/selector").into());
        cells
    },
);

pub(super) static STATEFUL_SETS: Printer = Printer::new(
    &[NAME, Column::text("Ready", "Ready pods of those wanted."), AGE, CONTAINERS, IMAGES],
    |object, now| {
        let (ready, desired) =
            (number(object, "/status/readyReplicas"), number(object, "/spec/replicas"));
        let mut cells = vec![
            text(object, "/metadata/name").into(),
            format!("{ready}/{desired}").into(),
            age(object, now).into(),
        ];
        cells.extend(containers(object, "/spec/template/spec"));
        cells
    },
);

pub(super) static REVISIONS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Controller", "Whose revision it is."),
        Column::number("Revision", "Which one."),
        AGE,
    ],
    |object, now| {
        vec![
            text(object, "/metadata/name").into(),
            controller(object).into(),
            number(object, "/revision").into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static TEMPLATES: Printer = Printer::new(
    &[
        NAME,
        Column::text("Containers", "Names of the containers."),
        Column::text("Images", "Images of the containers."),
        Column::text("Pod Labels", "Labels of its pods."),
    ],
    |object, _| {
        let [names, images] = containers(object, "/template/spec");
        let pods = labels(object, "/template/metadata/labels");
        vec![text(object, "/metadata/name").into(), names, images, pods.into()]
    },
);

/// The controller of an object: `statefulset.apps/web`.
fn controller(object: &Value) -> String {
    let owner = items(object, "/metadata/ownerReferences")
        .iter()
        .find(|one| one.get("controller").and_then(Value::as_bool) == Some(true));
    let Some(owner) = owner else { return NONE.to_owned() };
    let kind = text(owner, "/kind").to_lowercase();
    let name = text(owner, "/name");
    match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

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
    let [names, images] = containers(object, "/spec/template/spec");
    [names, images, selector(object, "/spec/selector").into()]
}

/// Names and images of the containers in the pod spec at a JSON pointer.
pub(super) fn containers(object: &Value, pointer: &str) -> [Value; 2] {
    let containers = items(object, &format!("{pointer}/containers"));
    let all = |field: &str| {
        containers.iter().map(|container| text(container, field)).collect::<Vec<_>>().join(",")
    };
    [all("/name").into(), all("/image").into()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::cells as printed;

    fn cells(resource: &str, status: &serde_json::Value) -> Vec<String> {
        let object = json!({
            "metadata": {"name": "web", "creationTimestamp": "2026-11-23T11:00:00Z"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
                "template": {"spec": {"nodeSelector": {"a": "b"}, "containers": [
                    {"name": "x", "image": "i:1"}, {"name": "y", "image": "j:2"}]}}},
            "status": status,
        });
        printed("apps", resource, &object)
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

    #[test]
    fn a_stateful_set_shows_ready_of_desired() {
        let want = ["web", "1/3", "60m", "x,y", "i:1,j:2"];
        assert_eq!(cells("statefulsets", &json!({"readyReplicas": 1})), want);
    }

    #[test]
    fn a_revision_shows_whose_it_is() {
        let object = json!({"metadata": {"name": "web-1", "ownerReferences": [
            {"controller": true, "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"}]},
            "revision": 4});
        let want = ["web-1", "statefulset.apps/web", "4", "<unknown>"];
        assert_eq!(printed("apps", "controllerrevisions", &object), want);
        assert_eq!(printed("apps", "controllerrevisions", &json!({}))[1], "<none>");
    }

    #[test]
    fn a_controller_selects_by_labels_alone() {
        let object = json!({"metadata": {"name": "c"}, "spec": {"selector": {"a": "b"}}});
        assert_eq!(printed("", "replicationcontrollers", &object)[7], "a=b");
        let template = json!({"metadata": {"name": "t"}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "i"}]}}});
        assert_eq!(printed("", "podtemplates", &template), ["t", "x", "i", "a=b"]);
    }
}
