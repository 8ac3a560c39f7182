// SPDX-License-Identifier: Apache-2.0
//! Pods as kubectl prints them: one word for a pod's state, counted restarts.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::format::{age, elapsed, items, number, or_none, text, text_or_none, time};
use super::{AGE, Column, NAME, Printer};

pub(super) static PODS: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Ready", "Ready containers of all."),
        Column::text("Status", "The pod's state in one word."),
        Column::text("Restarts", "How often containers were restarted, and when last."),
        AGE,
        Column::text("IP", "The pod's address.").wide(),
        Column::text("Node", "Where the pod runs.").wide(),
        Column::text("Nominated Node", "Where it will run once others have left.").wide(),
        Column::text("Readiness Gates", "Passed readiness gates of all.").wide(),
    ],
    cells,
    conditions,
};

/// What the statuses of a pod's containers come to.
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    last_restart: Option<OffsetDateTime>,
}

impl Summary {
    fn count(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        let finished = time(text(status, "/lastState/terminated/finishedAt"));
        self.last_restart = self.last_restart.max(finished);
    }
}

fn cells(pod: &Value, now: OffsetDateTime) -> Vec<Value> {
    let sidecars = items(pod, "/spec/initContainers").iter().filter(|c| is_sidecar(c)).count();
    let total = items(pod, "/spec/containers").len() + sidecars;
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts > 0 => {
            format!("{} ({} ago)", summary.restarts, elapsed(last, now))
        }
        _ => summary.restarts.to_string(),
    };
    let ip = match text(pod, "/status/podIPs/0/ip") {
        "" => text(pod, "/status/podIP"),
        first => first,
    };
    vec![
        text(pod, "/metadata/name").into(),
        format!("{}/{total}", summary.ready).into(),
        final_word(pod, summary.reason).into(),
        restarts.into(),
        age(pod, now).into(),
        or_none(ip.to_owned()).into(),
        text_or_none(pod, "/spec/nodeName").into(),
        text_or_none(pod, "/status/nominatedNodeName").into(),
        gates(pod).into(),
    ]
}

/// A deletion under way outshines what the containers say.
fn final_word(pod: &Value, reason: String) -> String {
    let deleted = pod.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null());
    let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    match (deleted, text(pod, "/status/reason")) {
        (true, "NodeLost") => "Unknown".to_owned(),
        (true, _) if !over => "Terminating".to_owned(),
        _ => reason,
    }
}

fn summarize(pod: &Value) -> Summary {
    let mut sidecar =
        Summary { reason: starting_word(pod), ready: 0, restarts: 0, last_restart: None };
    let mut init = Summary { restarts: 0, last_restart: None, reason: String::new(), ready: 0 };
    let blocked = init_blocked(pod, &mut init, &mut sidecar);
    let initialized = condition(pod, "Initialized").is_some_and(|c| text(c, "/status") == "True");
    if let Some(reason) = blocked {
        sidecar.reason = reason;
        if !initialized {
            return Summary { reason: sidecar.reason, ready: sidecar.ready, ..init };
        }
    }
    main_containers(pod, sidecar)
}

fn starting_word(pod: &Value) -> String {
    if condition(pod, "PodScheduled").is_some_and(|c| text(c, "/reason") == "SchedulingGated") {
        return "SchedulingGated".to_owned();
    }
    let reason = text(pod, "/status/reason");
    let phase = text(pod, "/status/phase");
    if reason.is_empty() { phase.to_owned() } else { reason.to_owned() }
}

/// Walks init containers up to the one that holds the pod up, and says how it does.
fn init_blocked(pod: &Value, init: &mut Summary, sidecar: &mut Summary) -> Option<String> {
    let specs = items(pod, "/spec/initContainers");
    for (index, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        init.count(status);
        let spec = specs.iter().find(|spec| text(spec, "/name") == text(status, "/name"));
        let restarted = spec.is_some_and(is_sidecar);
        if restarted {
            sidecar.count(status);
        }
        let terminated = status.pointer("/state/terminated").filter(|state| !state.is_null());
        if terminated.is_some_and(|state| number(state, "/exitCode") == 0) {
            continue;
        }
        if restarted && truth(status, "/started") {
            sidecar.ready += usize::from(truth(status, "/ready"));
            continue;
        }
        let waiting = text(status, "/state/waiting/reason");
        return Some(match terminated {
            Some(state) => format!("Init:{}", exit_word(state)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                format!("Init:{waiting}")
            }
            None => format!("Init:{index}/{}", specs.len()),
        });
    }
    None
}

fn main_containers(pod: &Value, mut summary: Summary) -> Summary {
    let mut running = false;
    for status in items(pod, "/status/containerStatuses").iter().rev() {
        summary.count(status);
        let waiting = text(status, "/state/waiting/reason");
        let terminated = status.pointer("/state/terminated").filter(|state| !state.is_null());
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.reason);
        } else if let Some(state) = terminated {
            summary.reason = exit_word(state);
        } else if truth(status, "/ready") && status.pointer("/state/running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if running && summary.reason == "Completed" {
        let ready = condition(pod, "Ready").is_some_and(|c| text(c, "/status") == "True");
        let word = if ready { "Running" } else { "NotReady" };
        word.clone_into(&mut summary.reason);
    }
    summary
}

fn exit_word(terminated: &Value) -> String {
    let (reason, signal) = (text(terminated, "/reason"), number(terminated, "/signal"));
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", number(terminated, "/exitCode"))
    }
}

fn gates(pod: &Value) -> String {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return or_none(String::new());
    }
    let passed = |gate: &&Value| {
        condition(pod, text(gate, "/conditionType")).is_some_and(|c| text(c, "/status") == "True")
    };
    format!("{}/{}", gates.iter().filter(passed).count(), gates.len())
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    items(pod, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

fn is_sidecar(container: &Value) -> bool {
    text(container, "/restartPolicy") == "Always"
}

fn truth(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([
        {"type": "Completed", "status": "True", "reason": reason, "message": message}
    ]))
}

#[cfg(test)]
mod tests {
    use super::super::tests::printed;
    use super::*;

    fn cell(pod: &Value, column: &str) -> String {
        let row = printed("", "pods", pod);
        row.into_iter().find(|(name, _)| name == column).unwrap().1
    }

    fn pod(status: &Value) -> Value {
        json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-11-23T11:59:00Z"},
            "spec": {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
            "status": status,
        })
    }

    fn container(state: &Value) -> Value {
        json!({"name": "c", "ready": false, "restartCount": 0, "state": state})
    }

    #[test]
    fn a_running_pod_counts_its_ready_containers() {
        let running = json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [
            {"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}}]});
        let pod = pod(&running);
        assert_eq!(cell(&pod, "Ready"), "1/1");
        assert_eq!(cell(&pod, "Status"), "Running");
        assert_eq!(cell(&pod, "Restarts"), "0");
        assert_eq!(cell(&pod, "Age"), "60s");
        assert_eq!(cell(&pod, "IP"), "10.0.0.1");
        assert_eq!(cell(&pod, "Node"), "<none>");
    }

    #[test]
    fn restarts_say_when_the_last_one_was() {
        let status = json!({"phase": "Running", "containerStatuses": [{"name": "c", "ready": false,
            "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-23T11:57:00Z"}}}]});
        let pod = pod(&status);
        assert_eq!(cell(&pod, "Status"), "CrashLoopBackOff");
        assert_eq!(cell(&pod, "Restarts"), "4 (3m ago)");
        assert_eq!(cell(&pod, "Ready"), "0/1");
    }

    #[test]
    fn a_terminated_container_gives_its_reason_signal_or_code() {
        for (state, want) in [
            (json!({"terminated": {"exitCode": 0, "reason": "Completed"}}), "Completed"),
            (json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "OOMKilled"),
            (json!({"terminated": {"exitCode": 137, "signal": 9}}), "Signal:9"),
            (json!({"terminated": {"exitCode": 3}}), "ExitCode:3"),
            (json!({"waiting": {"reason": "ImagePullBackOff"}}), "ImagePullBackOff"),
        ] {
            let pod = pod(&json!({"phase": "Failed", "containerStatuses": [container(&state)]}));
            assert_eq!(cell(&pod, "Status"), want);
        }
    }

    #[test]
    fn a_pod_held_up_by_an_init_container_says_which() {
        let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
        for (state, want) in [
            (json!({"running": {}}), "Init:1/2"),
            (json!({"waiting": {"reason": "PodInitializing"}}), "Init:1/2"),
            (json!({"waiting": {"reason": "CrashLoopBackOff"}}), "Init:CrashLoopBackOff"),
            (json!({"terminated": {"exitCode": 1, "reason": "Error"}}), "Init:Error"),
            (json!({"terminated": {"exitCode": 1}}), "Init:ExitCode:1"),
            (json!({"terminated": {"exitCode": 1, "signal": 6}}), "Init:Signal:6"),
        ] {
            let statuses = json!([done, {"name": "j", "state": state}]);
            let pod = pod(&json!({"phase": "Pending", "initContainerStatuses": statuses,
                "containerStatuses": [container(&json!({"waiting": {"reason": "PodInitializing"}}))]}));
            assert_eq!(cell(&pod, "Status"), want);
        }
    }

    #[test]
    fn a_deletion_shows_as_terminating_until_the_pod_is_over() {
        let mut pod = pod(&json!({"phase": "Running"}));
        pod["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z".into();
        assert_eq!(cell(&pod, "Status"), "Terminating");
        pod["status"]["reason"] = "NodeLost".into();
        assert_eq!(cell(&pod, "Status"), "Unknown");
        pod["status"] = json!({"phase": "Succeeded"});
        assert_eq!(cell(&pod, "Status"), "Succeeded");
    }

    #[test]
    fn one_running_container_keeps_a_pod_from_being_completed() {
        let done = container(&json!({"terminated": {"exitCode": 0, "reason": "Completed"}}));
        let running =
            json!({"name": "d", "ready": true, "restartCount": 0, "state": {"running": {}}});
        let mut pod = pod(&json!({"phase": "Running", "containerStatuses": [done, running]}));
        assert_eq!(cell(&pod, "Status"), "NotReady");
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert_eq!(cell(&pod, "Status"), "Running");
    }

    #[test]
    fn a_sidecar_counts_as_a_container() {
        let mut pod = pod(&json!({"phase": "Running",
            "initContainerStatuses": [{"name": "i", "started": true, "ready": true,
                "restartCount": 2, "state": {"running": {}}}],
            "containerStatuses": [{"name": "c", "ready": true, "restartCount": 1, "state": {"running": {}}}]}));
        pod["spec"]["initContainers"] = json!([{"name": "i", "restartPolicy": "Always"}]);
        assert_eq!(cell(&pod, "Ready"), "2/2");
        assert_eq!(cell(&pod, "Restarts"), "3");
        assert_eq!(cell(&pod, "Status"), "Running");
    }
}
