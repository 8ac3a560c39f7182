// SPDX-License-Identifier: Apache-2.0
//! What a node may report, checked against its view: its own Node and drivers, its own pods, their events
//! and claims.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::sync::view::Views;
use crate::sync::{Item, Key};

/// The kinds of reports, with whether one is removed at the node once it is acknowledged.
pub(crate) const RESOURCES: [(&str, bool); 8] = [
    ("csinodes", false),
    ("nodes/registration", false),
    ("nodes/status", false),
    ("pods/status", false),
    ("pods/deleted", true),
    ("pods/mirror", true),
    ("persistentvolumeclaims/size", true),
    ("events", true),
];

/// The annotation of a mirror pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What becomes of a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Hand it on.
    Accept,
    /// It is about a pod of this node that is gone: nothing to do.
    Ignore,
    /// It is not this node's to report.
    Refuse(String),
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Report {
    metadata: Metadata,
    spec: Spec,
    involved_object: Involved,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    annotations: Option<HashMap<String, Value>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Involved {
    kind: String,
    name: String,
    namespace: String,
}

/// Whether `node` may report `item`.
pub(crate) fn check(views: &Views, node: &str, item: &Item) -> Verdict {
    let key = &item.key;
    let Some(value) = &item.value else { return refuse("a report cannot be a deletion") };
    let Ok(report) = serde_json::from_slice::<Report>(value) else {
        return refuse("not a JSON object with metadata");
    };
    if !key.group.is_empty() {
        return refuse("an unknown kind of report");
    }
    if report.metadata.name != key.name || report.metadata.namespace != key.namespace {
        return refuse("metadata that differs from its key");
    }
    match key.resource.as_str() {
        "csinodes" | "nodes/registration" | "nodes/status"
            if key.namespace.is_empty() && key.name == node =>
        {
            Verdict::Accept
        }
        "csinodes" | "nodes/registration" | "nodes/status" => refuse("another node"),
        "pods/status" | "pods/deleted" => pod(views, node, key, &report.metadata.uid),
        "pods/mirror" => mirror(views, node, key, &report),
        "persistentvolumeclaims/size" => claim(views, node, key),
        "events" => event(views, node, key, &report.involved_object),
        _ => refuse("an unknown kind of report"),
    }
}

fn pod(views: &Views, node: &str, key: &Key, uid: &str) -> Verdict {
    let pod = Key::of("", "pods", &key.namespace, &key.name);
    match views.pod_of(&pod) {
        Some((owner, _)) if owner != node => gone_or(views, node, &pod, "a pod of another node"),
        Some((_, known)) if !uid.is_empty() && known != uid => Verdict::Ignore,
        Some(_) => Verdict::Accept,
        None => gone_or(views, node, &pod, "a pod that is not bound to it"),
    }
}

/// A mirror of a static pod is bound to its node, and never takes the place of another node's pod. What
/// it may say is the cloud role's to check (`kedge.cloud.mirror_pods`).
fn mirror(views: &Views, node: &str, key: &Key, report: &Report) -> Verdict {
    let annotations = report.metadata.annotations.as_ref();
    if report.spec.node_name != node {
        return refuse("a mirror pod of another node");
    }
    if !annotations.is_some_and(|all| all.contains_key(MIRROR)) {
        return refuse("a pod that is no mirror pod");
    }
    match views.pod_of(&Key::of("", "pods", &key.namespace, &key.name)) {
        Some((owner, _)) if owner != node => refuse("a pod of another node"),
        Some(_) => Verdict::Ignore,
        None => Verdict::Accept,
    }
}

/// A claim that its pods use has grown; by how much is the cloud role's to check.
fn claim(views: &Views, node: &str, key: &Key) -> Verdict {
    let claim = Key::of("", "persistentvolumeclaims", &key.namespace, &key.name);
    if views.sees(node, &claim) { Verdict::Accept } else { Verdict::Ignore }
}

fn event(views: &Views, node: &str, key: &Key, about: &Involved) -> Verdict {
    if about.kind == "Node" {
        return if about.name == node {
            Verdict::Accept
        } else {
            refuse("an event of another node")
        };
    }
    let pod = Key::of("", "pods", &about.namespace, &about.name);
    let own = views.pod_of(&pod).map(|(owner, _)| owner).or_else(|| views.gone_pod_of(&pod));
    if about.kind == "Pod" && about.namespace == key.namespace && own == Some(node) {
        return Verdict::Accept;
    }
    refuse("an event of an object that is not its own")
}

fn gone_or(views: &Views, node: &str, pod: &Key, reason: &str) -> Verdict {
    if views.gone_pod_of(pod) == Some(node) { Verdict::Ignore } else { refuse(reason) }
}

fn refuse(reason: &str) -> Verdict {
    Verdict::Refuse(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sync::port::Changed;

    fn views() -> Views {
        let mut views = Views::default();
        for (name, node) in [("mine", "n1"), ("other", "n2"), ("old", "n1")] {
            let json = format!(
                r#"{{"metadata":{{"namespace":"d","uid":"u"}},"spec":{{"nodeName":"{node}","volumes":[{{"name":"v","persistentVolumeClaim":{{"claimName":"of-{name}"}}}}]}}}}"#
            );
            change(&mut views, name, Some(json));
        }
        change(&mut views, "old", None);
        views
    }

    fn change(views: &mut Views, name: &str, json: Option<String>) {
        let key = Key::of("", "pods", "d", name);
        let changed = Changed { key, value: json.map(Bytes::from), previous: None, revision: 1 };
        views.apply(&changed, &|_| None);
    }

    fn verdict(resource: &str, namespace: &str, name: &str, extra: &str) -> Verdict {
        let json =
            format!(r#"{{"metadata":{{"name":"{name}","namespace":"{namespace}"}}{extra}}}"#);
        let key = Key::of("", resource, namespace, name);
        check(&views(), "n1", &Item { key, value: Some(json.into()), revision: 1 })
    }

    fn is_refused(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Refuse(_))
    }

    #[test]
    fn a_node_reports_itself_and_its_own_pods() {
        assert_eq!(verdict("nodes/status", "", "n1", ""), Verdict::Accept);
        assert_eq!(verdict("nodes/registration", "", "n1", ""), Verdict::Accept);
        assert_eq!(verdict("csinodes", "", "n1", ""), Verdict::Accept);
        assert_eq!(verdict("pods/status", "d", "mine", ""), Verdict::Accept);
        assert_eq!(verdict("pods/deleted", "d", "mine", ""), Verdict::Accept);
    }

    fn mirror_verdict(name: &str, node: &str, annotation: &str) -> Verdict {
        let json = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"d","annotations":{{"{annotation}":"u"}}}},"spec":{{"nodeName":"{node}"}}}}"#
        );
        let key = Key::of("", "pods/mirror", "d", name);
        check(&views(), "n1", &Item { key, value: Some(json.into()), revision: 1 })
    }

    #[test]
    fn a_node_reports_mirrors_of_its_own_static_pods_only() {
        assert_eq!(mirror_verdict("new", "n1", MIRROR), Verdict::Accept);
        assert_eq!(mirror_verdict("old", "n1", MIRROR), Verdict::Accept, "it is gone");
        assert_eq!(mirror_verdict("mine", "n1", MIRROR), Verdict::Ignore, "it is there");
        assert!(is_refused(&mirror_verdict("new", "n2", MIRROR)));
        assert!(is_refused(&mirror_verdict("new", "n1", "some/other")));
        assert!(is_refused(&mirror_verdict("other", "n1", MIRROR)));
        assert!(is_refused(&verdict("pods/mirror", "d", "new", "")));
    }

    #[test]
    fn a_node_reports_the_growth_of_claims_that_its_pods_use() {
        assert_eq!(verdict("persistentvolumeclaims/size", "d", "of-mine", ""), Verdict::Accept);
        for name in ["of-other", "of-old", "of-nobody"] {
            assert_eq!(verdict("persistentvolumeclaims/size", "d", name, ""), Verdict::Ignore);
        }
    }

    #[test]
    fn what_is_not_its_own_is_refused() {
        for (resource, namespace, name) in [
            ("nodes/status", "", "n2"),
            ("nodes/status", "d", "n1"),
            ("nodes/registration", "", "n2"),
            ("csinodes", "", "n2"),
            ("csinodes", "d", "n1"),
            ("pods/status", "d", "other"),
            ("pods/deleted", "d", "never"),
            ("pods", "d", "mine"),
            ("secrets", "d", "mine"),
            ("persistentvolumeclaims", "d", "of-mine"),
        ] {
            assert!(is_refused(&verdict(resource, namespace, name, "")), "{resource} {name}");
        }
    }

    #[test]
    fn a_report_on_a_pod_that_has_gone_or_was_replaced_is_ignored() {
        assert_eq!(verdict("pods/status", "d", "old", ""), Verdict::Ignore);
        let item = Item {
            key: Key::of("", "pods/status", "d", "mine"),
            value: Some(r#"{"metadata":{"name":"mine","namespace":"d","uid":"before"}}"#.into()),
            revision: 1,
        };
        assert_eq!(check(&views(), "n1", &item), Verdict::Ignore);
    }

    #[test]
    fn an_event_is_about_its_own_node_or_pod() {
        let about = |kind: &str, name: &str, namespace: &str| {
            let extra = format!(
                r#","involvedObject":{{"kind":"{kind}","name":"{name}","namespace":"{namespace}"}}"#
            );
            verdict("events", "d", "e", &extra)
        };
        assert_eq!(about("Pod", "mine", "d"), Verdict::Accept);
        assert_eq!(about("Pod", "old", "d"), Verdict::Accept);
        assert_eq!(about("Node", "n1", ""), Verdict::Accept);
        for (kind, name, namespace) in [
            ("Pod", "other", "d"),
            ("Pod", "mine", "e"),
            ("Node", "n2", ""),
            ("Secret", "mine", "d"),
        ] {
            assert!(is_refused(&about(kind, name, namespace)), "{kind} {name}");
        }
        assert!(is_refused(&verdict("events", "d", "e", "")));
    }

    #[test]
    fn bytes_that_are_no_report_are_refused() {
        for value in
            [None, Some("[]"), Some("{\"metadata\":1}"), Some(r#"{"metadata":{"name":"else"}}"#)]
        {
            let key = Key::of("", "nodes/status", "", "n1");
            let item = Item { key, value: value.map(Bytes::from), revision: 1 };
            assert!(is_refused(&check(&views(), "n1", &item)));
        }
    }
}
