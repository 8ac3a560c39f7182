// SPDX-License-Identifier: Apache-2.0
//! Budgets, autoscalers, quotas, classes, bindings, signing requests and admission as kubectl prints them.

use serde_json::Value;

use super::format::{NONE, UNKNOWN, UNSET, age, flag, items, number, scalar, text, text_or_none};
use super::{AGE, Column, NAME, Printer};

pub(super) static BUDGETS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Min Available", "Pods that must stay."),
        Column::text("Max Unavailable", "Pods that may be away."),
        Column::number("Allowed Disruptions", "Pods that may be evicted now."),
        AGE,
    ],
    |object, now| {
        vec![
            name(object),
            scalar(object, "/spec/minAvailable", "N/A").into(),
            scalar(object, "/spec/maxUnavailable", "N/A").into(),
            number(object, "/status/disruptionsAllowed").into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static AUTOSCALERS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Reference", "What is scaled."),
        Column::text("Targets", "What is measured, of what is aimed at."),
        Column::text("MinPods", "The fewest pods."),
        Column::text("MaxPods", "The most pods."),
        Column::text("Replicas", "Pods there are."),
        AGE,
    ],
    |object, now| {
        let target = "/spec/scaleTargetRef";
        let kind = text(object, &format!("{target}/kind"));
        vec![
            name(object),
            format!("{kind}/{}", text(object, &format!("{target}/name"))).into(),
            targets(object).into(),
            scalar(object, "/spec/minReplicas", UNSET).into(),
            number(object, "/spec/maxReplicas").into(),
            number(object, "/status/currentReplicas").into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static QUOTAS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Request", "Used of what may be asked for."),
        Column::text("Limit", "Used of what limits may come to."),
        AGE,
    ],
    |object, now| {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        let hard = object.pointer("/status/hard").and_then(Value::as_object);
        for (resource, most) in hard.into_iter().flatten() {
            let used = object.pointer("/status/used").and_then(|all| all.get(resource));
            let used = used.and_then(Value::as_str).unwrap_or("0");
            let line = format!("{resource}: {used}/{}", most.as_str().unwrap_or("0"));
            if resource.starts_with("limits.") { limits.push(line) } else { requests.push(line) }
        }
        requests.sort_unstable();
        limits.sort_unstable();
        let (requests, limits) = (requests.join(", "), limits.join(", "));
        vec![name(object), requests.into(), limits.into(), age(object, now).into()]
    },
);

pub(super) static PRIORITY_CLASSES: Printer = Printer::new(
    &[
        NAME,
        Column::number("Value", "The higher goes first."),
        Column {
            kind: "boolean",
            ..Column::text("Global-Default", "Whether pods have it by default.")
        },
        AGE,
        Column::text("PreemptionPolicy", "Whether it may push others out."),
    ],
    |object, now| {
        vec![
            name(object),
            number(object, "/value").into(),
            flag(object, "/globalDefault").into(),
            age(object, now).into(),
            text(object, "/preemptionPolicy").into(),
        ]
    },
);

pub(super) static RUNTIME_CLASSES: Printer =
    Printer::new(&[NAME, Column::text("Handler", "What runs its pods."), AGE], |object, now| {
        vec![name(object), text(object, "/handler").into(), age(object, now).into()]
    });

pub(super) static BINDINGS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Role", "What they may do."),
        AGE,
        Column::text("Users", "Users that it is for.").wide(),
        Column::text("Groups", "Groups that it is for.").wide(),
        Column::text("ServiceAccounts", "Accounts that it is for.").wide(),
    ],
    |object, now| {
        let who = |kind: &str| {
            let found = items(object, "/subjects").iter().filter(|one| text(one, "/kind") == kind);
            let shown = found.map(|one| match text(one, "/namespace") {
                "" => text(one, "/name").to_owned(),
                namespace => format!("{namespace}/{}", text(one, "/name")),
            });
            shown.collect::<Vec<_>>().join(", ")
        };
        vec![
            name(object),
            format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name")).into(),
            age(object, now).into(),
            who("User").into(),
            who("Group").into(),
            who("ServiceAccount").into(),
        ]
    },
);

pub(super) static SIGNING_REQUESTS: Printer = Printer::new(
    &[
        NAME,
        AGE,
        Column::text("SignerName", "Who is to sign."),
        Column::text("Requestor", "Who asks."),
        Column::text("RequestedDuration", "How long it is to last."),
        Column::text("Condition", "What has become of it."),
    ],
    |object, now| {
        let seconds = number(object, "/spec/expirationSeconds");
        let duration = match seconds {
            0 => NONE.to_owned(),
            _ => super::format::elapsed(now - time::Duration::seconds(seconds), now),
        };
        vec![
            name(object),
            age(object, now).into(),
            text_or_none(object, "/spec/signerName").into(),
            text(object, "/spec/username").into(),
            duration.into(),
            signed(object).into(),
        ]
    },
);

pub(super) static WEBHOOKS: Printer =
    Printer::new(&[NAME, Column::number("Webhooks", "How many are asked."), AGE], |object, now| {
        vec![name(object), items(object, "/webhooks").len().into(), age(object, now).into()]
    });

pub(super) static POLICIES: Printer = Printer::new(
    &[
        NAME,
        Column::number("Validations", "How many rules it has."),
        Column::text("ParamKind", "What sets it."),
        AGE,
    ],
    |object, now| {
        let parameter = match text(object, "/spec/paramKind/kind") {
            "" => UNSET.to_owned(),
            kind => format!("{}/{kind}", text(object, "/spec/paramKind/apiVersion")),
        };
        let count = items(object, "/spec/validations").len();
        vec![name(object), count.into(), parameter.into(), age(object, now).into()]
    },
);

pub(super) static POLICY_BINDINGS: Printer = Printer::new(
    &[
        NAME,
        Column::text("PolicyName", "What is bound."),
        Column::text("ParamRef", "With what settings."),
        AGE,
    ],
    |object, now| {
        let found = object.pointer("/spec/paramRef").is_some();
        let parameter = match text(object, "/spec/paramRef/name") {
            "" if found => "*/*".to_owned(),
            "" => UNSET.to_owned(),
            name => match text(object, "/spec/paramRef/namespace") {
                "" => format!("*/{name}"),
                namespace => format!("{namespace}/{name}"),
            },
        };
        vec![
            name(object),
            text(object, "/spec/policyName").into(),
            parameter.into(),
            age(object, now).into(),
        ]
    },
);

fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

fn signed(object: &Value) -> String {
    let conditions = items(object, "/status/conditions");
    let has = |kind: &str| conditions.iter().any(|one| text(one, "/type") == kind);
    let decided = ["Denied", "Approved"].into_iter().find(|kind| has(kind)).unwrap_or("Pending");
    let mut words = vec![decided];
    if has("Failed") {
        words.push("Failed");
    }
    if !text(object, "/status/certificate").is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

const MOST: usize = 2;

fn targets(object: &Value) -> String {
    let wanted = items(object, "/spec/metrics");
    let measured = items(object, "/status/currentMetrics");
    if wanted.is_empty() {
        return NONE.to_owned();
    }
    let all: Vec<String> = wanted
        .iter()
        .enumerate()
        .map(|(at, one)| target(one, measured.get(at).unwrap_or(&Value::Null)))
        .collect();
    let shown = all[..all.len().min(MOST)].join(", ");
    match all.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn target(wanted: &Value, measured: &Value) -> String {
    let (part, prefix) = match text(wanted, "/type") {
        "External" => ("/external", ""),
        "Pods" => ("/pods", ""),
        "Object" => ("/object", ""),
        "Resource" => ("/resource", text(wanted, "/resource/name")),
        "ContainerResource" => ("/containerResource", text(wanted, "/containerResource/name")),
        _ => return "<unknown type>".to_owned(),
    };
    let read = |field: &str| {
        let target = scalar(wanted, &format!("{part}/target/{field}"), "");
        let current = scalar(measured, &format!("{part}/current/{field}"), UNKNOWN);
        (!target.is_empty()).then_some((current, target))
    };
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}: ") };
    let average = if matches!(part, "/external" | "/object") { " (avg)" } else { "" };
    if let Some((current, target)) = read("averageValue") {
        return format!("{prefix}{current}/{target}{average}");
    }
    if let Some((current, target)) = read("averageUtilization") {
        let current = if current == UNKNOWN { current } else { format!("{current}%") };
        return format!("{prefix}{current}/{target}%");
    }
    let (current, target) = read("value").unwrap_or((UNKNOWN.to_owned(), "<auto>".to_owned()));
    format!("{prefix}{current}/{target}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::cells;

    #[test]
    fn a_budget_shows_numbers_and_shares() {
        let object = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": "50%"},
            "status": {"disruptionsAllowed": 2}});
        let want = ["b", "50%", "N/A", "2", "<unknown>"];
        assert_eq!(cells("policy", "poddisruptionbudgets", &object), want);
        let other = json!({"spec": {"maxUnavailable": 1}});
        assert_eq!(cells("policy", "poddisruptionbudgets", &other)[1..3], ["N/A", "1"]);
    }

    #[test]
    fn an_autoscaler_shows_what_it_sees_of_what_it_aims_at() {
        let metrics = json!([
            {"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 80}}},
            {"type": "Pods", "pods": {"target": {"type": "AverageValue", "averageValue": "5"}}},
            {"type": "External", "external": {"target": {"type": "Value", "value": "9"}}},
        ]);
        let mut object = json!({"metadata": {"name": "h"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}, "maxReplicas": 5,
                "metrics": metrics},
            "status": {"currentReplicas": 2, "currentMetrics": [
                {"resource": {"current": {"averageUtilization": 12, "averageValue": "6m"}}}]}});
        let want = [
            "h",
            "Deployment/web",
            "cpu: 12%/80%, <unknown>/5 + 1 more...",
            "<unset>",
            "5",
            "2",
            "<unknown>",
        ];
        assert_eq!(cells("autoscaling", "horizontalpodautoscalers", &object), want);
        object["spec"]["metrics"] = json!([{"type": "Object", "object": {"target":
            {"type": "AverageValue", "averageValue": "3"}}}]);
        let shown = cells("autoscaling", "horizontalpodautoscalers", &object);
        assert_eq!(shown[2], "<unknown>/3 (avg)");
    }

    #[test]
    fn a_quota_tells_requests_from_limits() {
        let object = json!({"metadata": {"name": "q"}, "status": {
            "hard": {"pods": "10", "limits.cpu": "2", "cpu": "1"},
            "used": {"pods": "3", "limits.cpu": "500m"}}});
        let want = ["q", "cpu: 0/1, pods: 3/10", "limits.cpu: 500m/2", "<unknown>"];
        assert_eq!(cells("", "resourcequotas", &object), want);
    }

    #[test]
    fn a_binding_shows_whom_it_is_for() {
        let object = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"},
                {"kind": "ServiceAccount", "namespace": "n", "name": "a"}]});
        let want = ["b", "Role/r", "<unknown>", "u", "g", "n/a"];
        assert_eq!(cells("rbac.authorization.k8s.io", "rolebindings", &object), want);
    }

    #[test]
    fn a_signing_request_shows_how_far_it_is() {
        let mut object = json!({"metadata": {"name": "c"}, "spec": {"username": "u",
            "signerName": "s", "expirationSeconds": 3600}});
        let row = |object: &serde_json::Value| {
            cells("certificates.k8s.io", "certificatesigningrequests", object)
        };
        assert_eq!(row(&object), ["c", "<unknown>", "s", "u", "60m", "Pending"]);
        object["status"] = json!({"conditions": [{"type": "Approved"}], "certificate": "x"});
        assert_eq!(row(&object)[5], "Approved,Issued");
    }

    #[test]
    fn admission_and_classes_show_what_they_hold() {
        let group = "admissionregistration.k8s.io";
        let hooks = json!({"metadata": {"name": "w"}, "webhooks": [{}, {}]});
        let want = ["w", "2", "<unknown>"];
        assert_eq!(cells(group, "validatingwebhookconfigurations", &hooks), want);
        let policy = json!({"spec": {"validations": [{}],
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}});
        let shown = cells(group, "validatingadmissionpolicies", &policy);
        assert_eq!(shown[1..3], ["1", "v1/ConfigMap"]);
        let binding = json!({"spec": {"policyName": "p", "paramRef": {"name": "x"}}});
        let shown = cells(group, "validatingadmissionpolicybindings", &binding);
        assert_eq!(shown[1..3], ["p", "*/x"]);
        let class = json!({"metadata": {"name": "c"}, "value": 7, "preemptionPolicy": "Never"});
        let want = ["c", "7", "false", "<unknown>", "Never"];
        assert_eq!(cells("scheduling.k8s.io", "priorityclasses", &class), want);
        let runtime = json!({"metadata": {"name": "r"}, "handler": "runc"});
        assert_eq!(cells("node.k8s.io", "runtimeclasses", &runtime), ["r", "runc", "<unknown>"]);
    }
}
