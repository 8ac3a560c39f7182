// SPDX-License-Identifier: Apache-2.0
//! Tables: what `kubectl get` prints, computed here.
//!
//! A `Printer` has columns and a function from an object to cells; columns of priority 1 are the
//! wide ones and are always sent, the client hides them. Each resource's printer follows the
//! columns and words of Kubernetes' own, since scripts and people read them.

mod basics;
mod batch;
mod format;
mod network;
mod pods;
mod policy;
mod storage;
mod workloads;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::object;
use crate::Result;

/// One column of a table.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Column {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    priority: u8,
}

impl Column {
    const fn text(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "string", format: "", description, priority: 0 }
    }

    const fn number(name: &'static str, description: &'static str) -> Self {
        Self { name, kind: "integer", format: "", description, priority: 0 }
    }

    const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name is unique within a namespace.",
    priority: 0,
};
const AGE: Column = Column::text("Age", "Time since the object was created.");

/// How one resource is printed.
pub(super) struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, OffsetDateTime) -> Vec<Value>,
    conditions: fn(&Value) -> Option<Value>,
}

impl Printer {
    const fn new(
        columns: &'static [Column],
        cells: fn(&Value, OffsetDateTime) -> Vec<Value>,
    ) -> Self {
        Self { columns, cells, conditions: |_| None }
    }
}

/// What of the object goes with each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Include {
    /// Nothing.
    None,
    /// Its metadata, which is what kubectl asks for.
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// Reads the `includeObject` parameter.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// The printer of a resource.
pub(super) fn printer(group: &str, resource: &str) -> &'static Printer {
    match (group, resource) {
        ("", "pods") => &pods::PODS,
        ("", "namespaces") => &basics::NAMESPACES,
        ("", "nodes") => &basics::NODES,
        ("", "configmaps") => &basics::CONFIG_MAPS,
        ("", "secrets") => &basics::SECRETS,
        ("", "serviceaccounts") => &basics::SERVICE_ACCOUNTS,
        ("", "services") => &basics::SERVICES,
        ("" | "events.k8s.io", "events") => &basics::EVENTS,
        ("", "endpoints") => &network::ENDPOINTS,
        ("", "persistentvolumeclaims") => &storage::CLAIMS,
        ("", "persistentvolumes") => &storage::VOLUMES,
        ("", "podtemplates") => &workloads::TEMPLATES,
        ("", "replicationcontrollers") => &workloads::CONTROLLERS,
        ("", "resourcequotas") => &policy::QUOTAS,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => &policy::WEBHOOKS,
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => &policy::POLICIES,
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => {
            &policy::POLICY_BINDINGS
        }
        ("apps", "controllerrevisions") => &workloads::REVISIONS,
        ("apps", "daemonsets") => &workloads::DAEMON_SETS,
        ("apps", "deployments") => &workloads::DEPLOYMENTS,
        ("apps", "replicasets") => &workloads::REPLICA_SETS,
        ("apps", "statefulsets") => &workloads::STATEFUL_SETS,
        ("autoscaling", "horizontalpodautoscalers") => &policy::AUTOSCALERS,
        ("batch", "cronjobs") => &batch::CRON_JOBS,
        ("batch", "jobs") => &batch::JOBS,
        ("certificates.k8s.io", "certificatesigningrequests") => &policy::SIGNING_REQUESTS,
        ("coordination.k8s.io", "leases") => &basics::LEASES,
        ("discovery.k8s.io", "endpointslices") => &network::SLICES,
        ("networking.k8s.io", "ingressclasses") => &network::INGRESS_CLASSES,
        ("networking.k8s.io", "ingresses") => &network::INGRESSES,
        ("networking.k8s.io", "networkpolicies") => &network::POLICIES,
        ("node.k8s.io", "runtimeclasses") => &policy::RUNTIME_CLASSES,
        ("policy", "poddisruptionbudgets") => &policy::BUDGETS,
        ("rbac.authorization.k8s.io", "clusterrolebindings" | "rolebindings") => &policy::BINDINGS,
        ("scheduling.k8s.io", "priorityclasses") => &policy::PRIORITY_CLASSES,
        ("storage.k8s.io", "csidrivers") => &storage::DRIVERS,
        ("storage.k8s.io", "csinodes") => &storage::CSI_NODES,
        ("storage.k8s.io", "csistoragecapacities") => &storage::CAPACITIES,
        ("storage.k8s.io", "storageclasses") => &storage::CLASSES,
        ("storage.k8s.io", "volumeattachments") => &storage::ATTACHMENTS,
        ("storage.k8s.io", "volumeattributesclasses") => &storage::ATTRIBUTES_CLASSES,
        _ => &basics::ANY,
    }
}

/// The column definitions as JSON.
pub(super) fn columns(printer: &Printer) -> Value {
    json!(printer.columns)
}

/// Appends the row of one stored object to `out`.
pub(super) fn row(
    out: &mut Vec<u8>,
    printer: &Printer,
    stored: &[u8],
    include: Include,
    now: OffsetDateTime,
) -> Result<()> {
    let parsed: Value = object::parse(stored)?;
    let cells = (printer.cells)(&parsed, now);
    out.extend_from_slice(b"{\"cells\":");
    out.extend_from_slice(Value::from(cells).to_string().as_bytes());
    if let Some(conditions) = (printer.conditions)(&parsed) {
        out.extend_from_slice(b",\"conditions\":");
        out.extend_from_slice(conditions.to_string().as_bytes());
    }
    out.extend_from_slice(b",\"object\":");
    match include {
        Include::None => out.extend_from_slice(b"null"),
        Include::Metadata => object::metadata_only(out, stored)?,
        Include::Object => {
            let raw: &RawValue = object::parse(stored)?;
            out.extend_from_slice(raw.get().as_bytes());
        }
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a person sees: the cells under their headings.
    pub(super) fn printed(group: &str, resource: &str, object: &Value) -> Vec<(String, String)> {
        let now = format::time("2026-11-23T12:00:00Z").unwrap();
        let printer = printer(group, resource);
        let cells = (printer.cells)(object, now);
        assert_eq!(cells.len(), printer.columns.len(), "{resource}");
        let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        let names = printer.columns.iter().map(|column| column.name.to_owned());
        names.zip(cells.iter().map(text)).collect()
    }

    /// The cells alone.
    pub(super) fn cells(group: &str, resource: &str, object: &Value) -> Vec<String> {
        printed(group, resource, object).into_iter().map(|(_, cell)| cell).collect()
    }

    #[test]
    fn a_row_carries_what_was_asked_of_the_object() {
        let stored =
            br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}"#;
        let now = format::time("2026-11-23T12:00:00Z").unwrap();
        let shown = |include| {
            let mut out = Vec::new();
            row(&mut out, printer("", "configmaps"), stored, include, now).unwrap();
            serde_json::from_slice::<Value>(&out).unwrap()
        };
        assert_eq!(shown(Include::None)["object"], Value::Null);
        let metadata = shown(Include::Metadata);
        assert_eq!(metadata["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(metadata["object"]["metadata"], json!({"name": "a"}));
        assert_eq!(metadata["cells"], json!(["a", 1, "<unknown>"]));
        assert_eq!(shown(Include::Object)["object"]["data"], json!({"k": "v"}));
    }

    #[test]
    fn an_empty_object_of_every_kind_can_be_printed() {
        for (group, resource) in [
            ("", "pods"),
            ("", "namespaces"),
            ("", "nodes"),
            ("", "secrets"),
            ("", "serviceaccounts"),
            ("", "services"),
            ("", "events"),
            ("", "endpoints"),
            ("", "persistentvolumeclaims"),
            ("", "persistentvolumes"),
            ("", "podtemplates"),
            ("", "replicationcontrollers"),
            ("", "resourcequotas"),
            ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
            ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
            ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
            ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
            ("apps", "controllerrevisions"),
            ("apps", "daemonsets"),
            ("apps", "deployments"),
            ("apps", "replicasets"),
            ("apps", "statefulsets"),
            ("autoscaling", "horizontalpodautoscalers"),
            ("batch", "cronjobs"),
            ("batch", "jobs"),
            ("certificates.k8s.io", "certificatesigningrequests"),
            ("coordination.k8s.io", "leases"),
            ("discovery.k8s.io", "endpointslices"),
            ("networking.k8s.io", "ingressclasses"),
            ("networking.k8s.io", "ingresses"),
            ("networking.k8s.io", "networkpolicies"),
            ("node.k8s.io", "runtimeclasses"),
            ("policy", "poddisruptionbudgets"),
            ("rbac.authorization.k8s.io", "clusterrolebindings"),
            ("rbac.authorization.k8s.io", "rolebindings"),
            ("scheduling.k8s.io", "priorityclasses"),
            ("storage.k8s.io", "csidrivers"),
            ("storage.k8s.io", "csinodes"),
            ("storage.k8s.io", "csistoragecapacities"),
            ("storage.k8s.io", "storageclasses"),
            ("storage.k8s.io", "volumeattachments"),
            ("storage.k8s.io", "volumeattributesclasses"),
            ("x", "unknowns"),
        ] {
            assert!(!printed(group, resource, &json!({})).is_empty());
        }
    }
}
