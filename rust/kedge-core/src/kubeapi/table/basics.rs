// SPDX-License-Identifier: Apache-2.0
//! Namespaces, Nodes, `ConfigMaps`, Secrets, `ServiceAccounts`, Services, Events and Leases as kubectl
//! prints them, and anything else by name and creation.

use serde_json::Value;
use time::OffsetDateTime;

use super::format::{
    NONE, UNKNOWN, age, entries, items, labels, number, or_none, since, text, text_or_none,
};
use super::{AGE, Column, NAME, Printer};

pub(super) static ANY: Printer = Printer::new(
    &[NAME, Column { kind: "date", ..Column::text("Created At", "When it was created.") }],
    |object, _| vec![name(object), text(object, "/metadata/creationTimestamp").into()],
);

pub(super) static NAMESPACES: Printer =
    Printer::new(&[NAME, Column::text("Status", "The phase of its life."), AGE], |object, now| {
        vec![name(object), text(object, "/status/phase").into(), age(object, now).into()]
    });

pub(super) static CONFIG_MAPS: Printer =
    Printer::new(&[NAME, Column::text("Data", "How many entries it has."), AGE], |object, now| {
        let count = entries(object, "/data") + entries(object, "/binaryData");
        vec![name(object), count.into(), age(object, now).into()]
    });

pub(super) static SECRETS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Type", "What its entries are for."),
        Column::text("Data", "How many entries it has."),
        AGE,
    ],
    |object, now| {
        let count = entries(object, "/data");
        vec![name(object), text(object, "/type").into(), count.into(), age(object, now).into()]
    },
);

pub(super) static SERVICE_ACCOUNTS: Printer = Printer::new(
    &[NAME, Column::text("Secrets", "How many secrets it may use."), AGE],
    |object, now| {
        vec![name(object), items(object, "/secrets").len().into(), age(object, now).into()]
    },
);

pub(super) static LEASES: Printer =
    Printer::new(&[NAME, Column::text("Holder", "Who holds it."), AGE], |object, now| {
        vec![name(object), text(object, "/spec/holderIdentity").into(), age(object, now).into()]
    });

pub(super) static NODES: Printer = Printer::new(
    &[
        NAME,
        Column::text("Status", "Whether it is ready and takes pods."),
        Column::text("Roles", "What it is used for."),
        AGE,
        Column::text("Version", "The kubelet's version."),
        Column::text("Internal-IP", "Its address within the cluster.").wide(),
        Column::text("External-IP", "Its address outside.").wide(),
        Column::text("OS-Image", "Its operating system.").wide(),
        Column::text("Kernel-Version", "Its kernel.").wide(),
        Column::text("Container-Runtime", "What runs its containers.").wide(),
    ],
    node,
);

pub(super) static SERVICES: Printer = Printer::new(
    &[
        NAME,
        Column::text("Type", "How it is exposed."),
        Column::text("Cluster-IP", "Its address within the cluster."),
        Column::text("External-IP", "Its addresses outside."),
        Column::text("Port(s)", "What it listens on."),
        AGE,
        Column::text("Selector", "What pods it leads to.").wide(),
    ],
    service,
);

pub(super) static EVENTS: Printer = Printer::new(
    &[
        Column::text("Last Seen", "When it happened last."),
        Column::text("Type", "Normal or Warning."),
        Column::text("Reason", "Why, in a word."),
        Column::text("Object", "What it happened to."),
        Column::text("Subobject", "The part of it.").wide(),
        Column::text("Source", "Who said so.").wide(),
        Column::text("Message", "What happened."),
        Column::text("First Seen", "When it happened first.").wide(),
        Column::number("Count", "How often it happened.").wide(),
        NAME.wide(),
    ],
    event,
);

fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

fn node(object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let unknown = |pointer: &str| match text(object, pointer) {
        "" => UNKNOWN.to_owned(),
        found => found.to_owned(),
    };
    vec![
        name(object),
        node_status(object).into(),
        roles(object).into(),
        age(object, now).into(),
        text(object, "/status/nodeInfo/kubeletVersion").into(),
        address(object, "InternalIP").into(),
        address(object, "ExternalIP").into(),
        unknown("/status/nodeInfo/osImage").into(),
        unknown("/status/nodeInfo/kernelVersion").into(),
        unknown("/status/nodeInfo/containerRuntimeVersion").into(),
    ]
}

fn node_status(object: &Value) -> String {
    let ready = items(object, "/status/conditions").iter().find(|c| text(c, "/type") == "Ready");
    let word = match ready.map(|condition| text(condition, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = object.pointer("/spec/unschedulable").and_then(Value::as_bool).unwrap_or(false);
    if cordoned { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}

fn roles(object: &Value) -> String {
    let Some(labels) = object.pointer("/metadata/labels").and_then(Value::as_object) else {
        return NONE.to_owned();
    };
    let mut roles: Vec<&str> = labels
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    or_none(roles.join(","))
}

fn address(object: &Value, kind: &str) -> String {
    let found = items(object, "/status/addresses").iter().find(|a| text(a, "/type") == kind);
    found.map_or_else(|| NONE.to_owned(), |address| text(address, "/address").to_owned())
}

fn service(object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let kind = match text(object, "/spec/type") {
        "" => "ClusterIP",
        kind => kind,
    };
    let cluster_ip = match text(object, "/spec/clusterIPs/0") {
        "" => text_or_none(object, "/spec/clusterIP"),
        first => first.to_owned(),
    };
    vec![
        name(object),
        kind.into(),
        cluster_ip.into(),
        external(object, kind).into(),
        ports(object).into(),
        age(object, now).into(),
        labels(object, "/spec/selector").into(),
    ]
}

fn external(object: &Value, kind: &str) -> String {
    let strings = |pointer| items(object, pointer).iter().filter_map(Value::as_str);
    let mut all: Vec<&str> = Vec::new();
    match kind {
        "ExternalName" => return text(object, "/spec/externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = items(object, "/status/loadBalancer/ingress").iter();
            all.extend(ingress.map(|entry| match text(entry, "/ip") {
                "" => text(entry, "/hostname"),
                ip => ip,
            }));
            all.extend(strings("/spec/externalIPs"));
            if all.is_empty() {
                return "<pending>".to_owned();
            }
        }
        _ => all.extend(strings("/spec/externalIPs")),
    }
    or_none(all.join(","))
}

fn ports(object: &Value) -> String {
    let one = |port: &Value| {
        let protocol = match text(port, "/protocol") {
            "" => "TCP",
            protocol => protocol,
        };
        match (number(port, "/port"), number(port, "/nodePort")) {
            (inner, 0) => format!("{inner}/{protocol}"),
            (inner, outer) => format!("{inner}:{outer}/{protocol}"),
        }
    };
    or_none(items(object, "/spec/ports").iter().map(one).collect::<Vec<_>>().join(","))
}

fn event(object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let event_time = since(object, "/eventTime", now);
    let or = |found: String, other: &str| if found == UNKNOWN { other.to_owned() } else { found };
    let first = or(since(object, "/firstTimestamp", now), &event_time);
    let series = object.get("series").filter(|series| !series.is_null());
    let (last, count) = match series {
        Some(series) => (since(series, "/lastObservedTime", now), number(series, "/count")),
        None => (or(since(object, "/lastTimestamp", now), &first), number(object, "/count").max(1)),
    };
    let kind = text(object, "/involvedObject/kind").to_lowercase();
    let involved = text(object, "/involvedObject/name");
    let target = if kind.is_empty() { involved.to_owned() } else { format!("{kind}/{involved}") };
    vec![
        last.into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        target.into(),
        text(object, "/involvedObject/fieldPath").into(),
        source(object).into(),
        text(object, "/message").trim().into(),
        first.into(),
        count.into(),
        name(object),
    ]
}

fn source(object: &Value) -> String {
    let component = match text(object, "/source/component") {
        "" => text(object, "/reportingComponent"),
        component => component,
    };
    let host = match text(object, "/source/host") {
        "" => text(object, "/reportingInstance"),
        host => host,
    };
    let parts: Vec<&str> = [component, host].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::cells;

    #[test]
    fn a_node_shows_readiness_cordon_and_sorted_roles() {
        let node = json!({
            "metadata": {"name": "n", "creationTimestamp": "2026-11-23T11:59:59Z", "labels": {
                "node-role.kubernetes.io/edge": "", "node-role.kubernetes.io/agent": "", "x": "y"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6",
                    "containerRuntimeVersion": "containerd://1"}},
        });
        let want = [
            "n",
            "Ready,SchedulingDisabled",
            "agent,edge",
            "1s",
            "v1.36.0",
            "10.1.1.1",
            "<none>",
            "Debian",
            "6",
            "containerd://1",
        ];
        assert_eq!(cells("", "nodes", &node), want);
        let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        assert_eq!(cells("", "nodes", &silent)[1], "NotReady");
    }

    #[test]
    fn a_service_shows_addresses_and_ports() {
        let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort",
            "clusterIP": "10.0.0.9", "selector": {"a": "b"},
            "ports": [{"port": 80, "nodePort": 30000}, {"port": 53, "protocol": "UDP"}]}});
        let want =
            ["s", "NodePort", "10.0.0.9", "<none>", "80:30000/TCP,53/UDP", "<unknown>", "a=b"];
        assert_eq!(cells("", "services", &service), want);
        let balanced = json!({"spec": {"type": "LoadBalancer"}});
        assert_eq!(cells("", "services", &balanced)[3], "<pending>");
    }

    #[test]
    fn an_event_shows_when_what_and_whom() {
        let event = json!({"metadata": {"name": "e"}, "type": "Warning", "reason": "BackOff",
            "message": "again\n", "count": 3, "involvedObject": {"kind": "Pod", "name": "p"},
            "source": {"component": "kubelet", "host": "n"},
            "firstTimestamp": "2026-11-23T11:50:00Z", "lastTimestamp": "2026-11-23T11:59:50Z"});
        let want =
            ["10s", "Warning", "BackOff", "pod/p", "", "kubelet, n", "again", "10m", "3", "e"];
        assert_eq!(cells("", "events", &event), want);
        let modern = json!({"eventTime": "2026-11-23T11:59:00.000000Z"});
        assert_eq!(cells("", "events", &modern)[0], "60s");
    }

    #[test]
    fn data_is_counted_never_shown() {
        let secret =
            json!({"metadata": {"name": "s"}, "type": "Opaque", "data": {"a": "c2VjcmV0"}});
        assert_eq!(cells("", "secrets", &secret), ["s", "Opaque", "1", "<unknown>"]);
        let both = json!({"metadata": {"name": "c"}, "data": {"a": ""}, "binaryData": {"b": ""}});
        assert_eq!(cells("", "configmaps", &both), ["c", "2", "<unknown>"]);
    }
}
