// SPDX-License-Identifier: Apache-2.0
//! Claims, volumes and what drivers say of themselves, as kubectl prints them.

use serde_json::Value;

use super::format::{UNSET, age, flag, items, text, text_or};
use super::{AGE, Column, NAME, Printer};

const CAPACITY: Column = Column::text("Capacity", "How much it holds.");
const ACCESS_MODES: Column = Column::text("Access Modes", "How it can be mounted.");
const STATUS: Column = Column::text("Status", "The phase of its life.");
const STORAGE_CLASS: Column = Column::text("StorageClass", "Its class.");
const ATTRIBUTES_CLASS: Column = Column::text("VolumeAttributesClass", "Its attributes' class.");
const VOLUME_MODE: Column = Column::text("VolumeMode", "A file system or a block device.").wide();

pub(super) static CLAIMS: Printer = Printer::new(
    &[
        NAME,
        STATUS,
        Column::text("Volume", "What it is bound to."),
        CAPACITY,
        ACCESS_MODES,
        STORAGE_CLASS,
        ATTRIBUTES_CLASS,
        AGE,
        VOLUME_MODE,
    ],
    |object, now| {
        let is_bound = !text(object, "/spec/volumeName").is_empty();
        let held = |pointer| if is_bound { text(object, pointer) } else { "" };
        let phase = if object.pointer("/metadata/deletionTimestamp").is_some() {
            "Terminating"
        } else {
            text(object, "/status/phase")
        };
        let modes = if is_bound { modes(object, "/status/accessModes") } else { String::new() };
        vec![
            name(object),
            phase.into(),
            text(object, "/spec/volumeName").into(),
            held("/status/capacity/storage").into(),
            modes.into(),
            class(object).into(),
            text_or(object, "/spec/volumeAttributesClassName", UNSET).into(),
            age(object, now).into(),
            text_or(object, "/spec/volumeMode", UNSET).into(),
        ]
    },
);

pub(super) static VOLUMES: Printer = Printer::new(
    &[
        NAME,
        CAPACITY,
        ACCESS_MODES,
        Column::text("Reclaim Policy", "What becomes of it after its claim."),
        STATUS,
        Column::text("Claim", "What it is bound to."),
        STORAGE_CLASS,
        ATTRIBUTES_CLASS,
        Column::text("Reason", "Why it is in this phase."),
        AGE,
        VOLUME_MODE,
    ],
    |object, now| {
        let claim = match text(object, "/spec/claimRef/name") {
            "" => String::new(),
            name => format!("{}/{name}", text(object, "/spec/claimRef/namespace")),
        };
        let phase = if object.pointer("/metadata/deletionTimestamp").is_some() {
            "Terminating"
        } else {
            text(object, "/status/phase")
        };
        vec![
            name(object),
            text(object, "/spec/capacity/storage").into(),
            modes(object, "/spec/accessModes").into(),
            text(object, "/spec/persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            class(object).into(),
            text_or(object, "/spec/volumeAttributesClassName", UNSET).into(),
            text(object, "/status/reason").into(),
            age(object, now).into(),
            text_or(object, "/spec/volumeMode", UNSET).into(),
        ]
    },
);

pub(super) static CLASSES: Printer = Printer::new(
    &[
        NAME,
        Column::text("Provisioner", "Who makes its volumes."),
        Column::text("ReclaimPolicy", "What becomes of a volume after its claim."),
        Column::text("VolumeBindingMode", "When claims are bound."),
        Column {
            kind: "boolean",
            ..Column::text("AllowVolumeExpansion", "Whether claims may grow.")
        },
        AGE,
    ],
    |object, now| {
        let marks = ["storageclass.kubernetes.io", "storageclass.beta.kubernetes.io"];
        let is_default = marks.iter().any(|mark| {
            text(object, &format!("/metadata/annotations/{mark}~1is-default-class")) == "true"
        });
        let suffix = if is_default { " (default)" } else { "" };
        vec![
            format!("{}{suffix}", text(object, "/metadata/name")).into(),
            text(object, "/provisioner").into(),
            text_or(object, "/reclaimPolicy", "Delete").into(),
            text_or(object, "/volumeBindingMode", "Immediate").into(),
            flag(object, "/allowVolumeExpansion").into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static DRIVERS: Printer = Printer::new(
    &[
        NAME,
        Column {
            kind: "boolean",
            ..Column::text("AttachRequired", "Whether volumes are attached first.")
        },
        Column { kind: "boolean", ..Column::text("PodInfoOnMount", "Whether it is told of pods.") },
        Column {
            kind: "boolean",
            ..Column::text("StorageCapacity", "Whether it says what is left.")
        },
        Column::text("TokenRequests", "Audiences of the tokens it gets."),
        Column {
            kind: "boolean",
            ..Column::text("RequiresRepublish", "Whether it is asked again.")
        },
        Column::text("Modes", "How long its volumes live."),
        AGE,
    ],
    |object, now| {
        let audiences = items(object, "/spec/tokenRequests").iter();
        let audiences: Vec<&str> = audiences.map(|one| text(one, "/audience")).collect();
        let or_true = |pointer| object.pointer(pointer).is_none_or(|value| value == true);
        let lives = match strings(object, "/spec/volumeLifecycleModes") {
            found if found.is_empty() => "Persistent".to_owned(),
            found => found,
        };
        vec![
            name(object),
            or_true("/spec/attachRequired").into(),
            flag(object, "/spec/podInfoOnMount").into(),
            flag(object, "/spec/storageCapacity").into(),
            if audiences.is_empty() { UNSET.into() } else { audiences.join(",").into() },
            flag(object, "/spec/requiresRepublish").into(),
            lives.into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static CSI_NODES: Printer = Printer::new(
    &[NAME, Column::number("Drivers", "How many drivers it has."), AGE],
    |object, now| {
        vec![name(object), items(object, "/spec/drivers").len().into(), age(object, now).into()]
    },
);

pub(super) static CAPACITIES: Printer =
    Printer::new(&[NAME, Column::text("StorageClassName", "Its class."), CAPACITY], |object, _| {
        vec![
            name(object),
            text(object, "/storageClassName").into(),
            text_or(object, "/capacity", UNSET).into(),
        ]
    });

pub(super) static ATTACHMENTS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Attacher", "Who attaches it."),
        Column::text("PV", "What is attached."),
        Column::text("Node", "Where to."),
        Column { kind: "boolean", ..Column::text("Attached", "Whether it is attached.") },
        AGE,
    ],
    |object, now| {
        vec![
            name(object),
            text(object, "/spec/attacher").into(),
            text(object, "/spec/source/persistentVolumeName").into(),
            text(object, "/spec/nodeName").into(),
            flag(object, "/status/attached").into(),
            age(object, now).into(),
        ]
    },
);

pub(super) static ATTRIBUTES_CLASSES: Printer = Printer::new(
    &[NAME, Column::text("DriverName", "Whose attributes they are."), AGE],
    |object, now| vec![name(object), text(object, "/driverName").into(), age(object, now).into()],
);

fn name(object: &Value) -> Value {
    text(object, "/metadata/name").into()
}

fn class(object: &Value) -> String {
    let old = "/metadata/annotations/volume.beta.kubernetes.io~1storage-class";
    match text(object, old) {
        "" => text(object, "/spec/storageClassName").to_owned(),
        named => named.to_owned(),
    }
}

fn strings(object: &Value, pointer: &str) -> String {
    items(object, pointer).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn modes(object: &Value, pointer: &str) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let named: Vec<&str> = items(object, pointer).iter().filter_map(Value::as_str).collect();
    let short = known.iter().filter(|(mode, _)| named.contains(mode)).map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::cells;

    #[test]
    fn a_bound_claim_shows_what_it_holds_and_a_waiting_one_does_not() {
        let mut claim = json!({
            "metadata": {"name": "data", "creationTimestamp": "2026-11-23T11:59:00Z"},
            "spec": {"volumeName": "pv-1", "storageClassName": "fast", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteMany", "ReadWriteOnce"]},
        });
        let want =
            ["data", "Bound", "pv-1", "1Gi", "RWO,RWX", "fast", "<unset>", "60s", "Filesystem"];
        assert_eq!(cells("", "persistentvolumeclaims", &claim), want);
        claim["spec"] = json!({"storageClassName": "fast"});
        claim["status"]["phase"] = "Pending".into();
        let want = ["data", "Pending", "", "", "", "fast", "<unset>", "60s", "<unset>"];
        assert_eq!(cells("", "persistentvolumeclaims", &claim), want);
        claim["metadata"]["deletionTimestamp"] = "2026-11-23T11:59:30Z".into();
        assert_eq!(cells("", "persistentvolumeclaims", &claim)[1], "Terminating");
    }

    #[test]
    fn a_volume_shows_its_claim() {
        let volume = json!({
            "metadata": {"name": "pv-1", "creationTimestamp": "2026-11-23T11:59:00Z"},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"],
                "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Block",
                "claimRef": {"namespace": "a", "name": "data"}, "storageClassName": "fast"},
            "status": {"phase": "Failed", "reason": "Gone"},
        });
        let want = [
            "pv-1", "1Gi", "RWOP", "Retain", "Failed", "a/data", "fast", "<unset>", "Gone", "60s",
            "Block",
        ];
        assert_eq!(cells("", "persistentvolumes", &volume), want);
    }

    #[test]
    fn the_default_class_is_marked() {
        let class = json!({
            "metadata": {"name": "local-path", "creationTimestamp": "2026-11-23T11:59:00Z",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kedge.dev/local-path", "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": true,
        });
        let want = [
            "local-path (default)",
            "kedge.dev/local-path",
            "Delete",
            "WaitForFirstConsumer",
            "true",
            "60s",
        ];
        assert_eq!(cells("storage.k8s.io", "storageclasses", &class), want);
    }

    #[test]
    fn a_driver_shows_what_it_wants() {
        let driver = json!({"metadata": {"name": "d"}, "spec": {"attachRequired": false,
            "podInfoOnMount": true, "tokenRequests": [{"audience": "a"}, {"audience": "b"}],
            "volumeLifecycleModes": ["Persistent", "Ephemeral"]}});
        let want =
            ["d", "false", "true", "false", "a,b", "false", "Persistent,Ephemeral", "<unknown>"];
        assert_eq!(cells("storage.k8s.io", "csidrivers", &driver), want);
        let bare = cells("storage.k8s.io", "csidrivers", &json!({"metadata": {"name": "d"}}));
        let want = ["d", "true", "false", "false", "<unset>", "false", "Persistent", "<unknown>"];
        assert_eq!(bare, want);
    }

    #[test]
    fn an_attachment_shows_what_is_where() {
        let attachment = json!({"metadata": {"name": "x"}, "spec": {"attacher": "d",
            "nodeName": "n", "source": {"persistentVolumeName": "pv-1"}},
            "status": {"attached": true}});
        let want = ["x", "d", "pv-1", "n", "true", "<unknown>"];
        assert_eq!(cells("storage.k8s.io", "volumeattachments", &attachment), want);
    }
}
