// SPDX-License-Identifier: Apache-2.0
//! Jobs and `CronJobs` as kubectl prints them.

use serde_json::Value;
use time::OffsetDateTime;

use super::format::{
    NONE, age, elapsed, flag, items, number, selector, since, text, text_or_none, time,
};
use super::workloads::{CONTAINERS, IMAGES, SELECTOR, containers};
use super::{AGE, Column, NAME, Printer};

pub(super) static JOBS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Status", "What has become of it."),
        Column::text("Completions", "Pods that succeeded, of those wanted."),
        Column::text("Duration", "How long it took, or has taken."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    job,
);

pub(super) static CRON_JOBS: Printer = Printer::new(
    &[
        NAME,
        Column::text("Schedule", "When Jobs start."),
        Column::text("Timezone", "Where that is the time."),
        Column { kind: "boolean", ..Column::text("Suspend", "Whether none start now.") },
        Column::number("Active", "Jobs that run."),
        Column::text("Last Schedule", "Time since the last was to start."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cron_job,
);

fn job(object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let succeeded = number(object, "/status/succeeded");
    let completions = match object.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None => match number(object, "/spec/parallelism") {
            parallel if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
            _ => format!("{succeeded}/1"),
        },
    };
    let ended = time(text(object, "/status/completionTime")).unwrap_or(now);
    let duration = time(text(object, "/status/startTime")).map(|start| elapsed(start, ended));
    let mut cells = vec![
        text(object, "/metadata/name").into(),
        state(object).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        age(object, now).into(),
    ];
    cells.extend(containers(object, "/spec/template/spec"));
    cells.push(selector(object, "/spec/selector").into());
    cells
}

fn state(object: &Value) -> &'static str {
    let has = |kind: &str| {
        items(object, "/status/conditions")
            .iter()
            .any(|one| text(one, "/type") == kind && text(one, "/status") == "True")
    };
    let words = ["Complete", "Failed"];
    if let Some(word) = words.into_iter().find(|word| has(word)) {
        return word;
    }
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating";
    }
    let words = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
    words.into_iter().find(|word| has(word)).unwrap_or("Running")
}

fn cron_job(object: &Value, now: OffsetDateTime) -> Vec<Value> {
    let last = match text(object, "/status/lastScheduleTime") {
        "" => NONE.to_owned(),
        _ => since(object, "/status/lastScheduleTime", now),
    };
    let mut cells = vec![
        text(object, "/metadata/name").into(),
        text(object, "/spec/schedule").into(),
        text_or_none(object, "/spec/timeZone").into(),
        if flag(object, "/spec/suspend") { "True" } else { "False" }.into(),
        items(object, "/status/active").len().into(),
        last.into(),
        age(object, now).into(),
    ];
    cells.extend(containers(object, "/spec/jobTemplate/spec/template/spec"));
    cells.push(selector(object, "/spec/jobTemplate/spec/selector").into());
    cells
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::cells;

    fn job(spec: &Value, status: &Value) -> Vec<String> {
        let mut object = json!({
            "metadata": {"name": "j", "creationTimestamp": "2026-11-23T11:59:00Z"},
            "spec": {"selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
            "status": status,
        });
        for (key, value) in spec.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        cells("batch", "jobs", &object)
    }

    #[test]
    fn a_job_shows_how_far_it_is() {
        let started = json!({"startTime": "2026-11-23T11:59:30Z", "succeeded": 1});
        let want = ["j", "Running", "1/3", "30s", "60s", "c", "i", "a=b"];
        assert_eq!(job(&json!({"completions": 3}), &started), want);
        assert_eq!(job(&json!({"parallelism": 2}), &started)[2], "1/1 of 2");
        assert_eq!(job(&json!({}), &json!({}))[2..4], ["0/1", ""]);
        let done = json!({"startTime": "2026-11-23T11:59:30Z", "succeeded": 1,
            "completionTime": "2026-11-23T11:59:35Z",
            "conditions": [{"type": "SuccessCriteriaMet", "status": "True"},
                {"type": "Complete", "status": "True"}]});
        assert_eq!(job(&json!({"completions": 1}), &done)[1..4], ["Complete", "1/1", "5s"]);
        let no = json!({"conditions": [{"type": "Suspended", "status": "False"}]});
        assert_eq!(job(&json!({}), &no)[1], "Running");
    }

    #[test]
    fn a_cron_job_shows_its_schedule() {
        let object = json!({
            "metadata": {"name": "n", "creationTimestamp": "2026-11-23T11:59:00Z"},
            "spec": {"schedule": "* * * * *", "suspend": true, "jobTemplate": {"spec": {
                "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}},
            "status": {"active": [{}, {}], "lastScheduleTime": "2026-11-23T11:59:10Z"},
        });
        let want = ["n", "* * * * *", "<none>", "True", "2", "50s", "60s", "c", "i", "<none>"];
        assert_eq!(cells("batch", "cronjobs", &object), want);
        let new = cells("batch", "cronjobs", &json!({"spec": {"timeZone": "Etc/UTC"}}));
        assert_eq!(new[2..6], ["Etc/UTC", "False", "0", "<none>"]);
    }
}
