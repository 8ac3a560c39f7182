// SPDX-License-Identifier: Apache-2.0
//! Who may do what: a coarse table of rows, checked before anything is read or queued.
//!
//! These rows are kedge's own parts'; what they do not allow, roles may (`rbac`).

use serde::Deserialize;
use serde_json::{Value, json};

use super::About;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: String,
    pub(super) groups: Vec<String>,
}

/// One allowance. `"*"` stands for all of a column.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// The row is for members of any of these.
    groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    /// `pods`, `pods/status`, `deployments.apps`, `pods/*`.
    #[serde(default)]
    resources: Vec<String>,
    /// Only these namespaces; empty means all, and cluster-scoped objects.
    #[serde(default)]
    namespaces: Vec<String>,
    /// Paths that are no resources; a trailing `*` covers what begins so. Always for reading.
    #[serde(default)]
    urls: Vec<String>,
}

/// All rows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Policy(Vec<Row>);

impl Policy {
    /// Whether `who` may do `verb` on `target`.
    pub(super) fn allows(&self, who: &Identity, verb: &str, target: &About<'_>) -> bool {
        let resource = resource_name(target);
        self.rows_of(who).any(|row| {
            covers(&row.verbs, verb)
                && covers(&row.resources, &resource)
                && (row.namespaces.is_empty()
                    || row.namespaces.iter().any(|own| own == target.namespace))
        })
    }

    /// Whether `who` may read `path`, which is no resource.
    pub(super) fn allows_url(&self, who: &Identity, path: &str) -> bool {
        self.rows_of(who).any(|row| covers(&row.urls, path))
    }

    /// The rows of `who` that hold in `namespace`, as a review has rules: those for resources, those for
    /// paths.
    pub(super) fn rules(&self, who: &Identity, namespace: &str) -> (Vec<Value>, Vec<Value>) {
        let (mut resources, mut urls) = (Vec::new(), Vec::new());
        for row in self.rows_of(who) {
            if !row.urls.is_empty() {
                urls.push(json!({"verbs": ["get"], "nonResourceURLs": row.urls}));
            }
            if row.namespaces.is_empty() || row.namespaces.iter().any(|own| own == namespace) {
                resources.extend(row.resources.iter().map(|name| {
                    let (name, below) = name.split_once('/').unwrap_or((name, ""));
                    let (name, group) =
                        name.split_once('.').unwrap_or((name, if name == "*" { "*" } else { "" }));
                    let slash = if below.is_empty() { "" } else { "/" };
                    let resource = format!("{name}{slash}{below}");
                    json!({"verbs": row.verbs, "apiGroups": [group], "resources": [resource]})
                }));
            }
        }
        (resources, urls)
    }

    fn rows_of<'a>(&'a self, who: &'a Identity) -> impl Iterator<Item = &'a Row> {
        self.0.iter().filter(|row| row.groups.iter().any(|group| who.groups.contains(group)))
    }
}

fn covers(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => pattern == text,
    })
}

fn resource_name(target: &About<'_>) -> String {
    let mut name = super::status::qualified(target.resource, target.group);
    if !target.subresource.is_empty() {
        name.push('/');
        name.push_str(target.subresource);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        serde_json::from_str(
            r#"[{"groups": ["system:masters"], "verbs": ["*"], "resources": ["*"], "urls": ["*"]},
                {"groups": ["cloud"], "verbs": ["get", "patch"], "resources": ["pods", "pods/status"]},
                {"groups": ["cloud"], "verbs": ["*"], "resources": ["secrets"], "namespaces": ["kedge-system"]},
                {"groups": ["all"], "urls": ["/api*", "/version"]}]"#,
        )
        .unwrap()
    }

    fn who(group: &str) -> Identity {
        Identity { user: "u".into(), groups: vec![group.into()] }
    }

    fn target<'a>(resource: &'a str, namespace: &'a str, subresource: &'a str) -> About<'a> {
        About { resource, subresource, namespace, ..About::default() }
    }

    #[test]
    fn only_what_a_row_names_is_allowed() {
        let (policy, cloud) = (policy(), who("cloud"));
        assert!(policy.allows(&cloud, "get", &target("pods", "a", "")));
        assert!(policy.allows(&cloud, "patch", &target("pods", "a", "status")));
        assert!(!policy.allows(&cloud, "delete", &target("pods", "a", "")));
        assert!(!policy.allows(&cloud, "get", &target("pods", "a", "binding")));
        assert!(policy.allows(&cloud, "create", &target("secrets", "kedge-system", "")));
        assert!(!policy.allows(&cloud, "get", &target("secrets", "default", "")));
        assert!(!policy.allows(&cloud, "list", &target("secrets", "", "")));
    }

    #[test]
    fn a_group_does_not_cover_another_api_group() {
        let row = About { group: "metrics.k8s.io", ..target("pods", "a", "") };
        assert!(!policy().allows(&who("cloud"), "get", &row));
    }

    #[test]
    fn rows_are_told_as_the_rules_of_a_review() {
        let (resources, urls) = policy().rules(&who("cloud"), "kedge-system");
        assert_eq!(urls, Vec::<Value>::new());
        assert_eq!(resources.len(), 3);
        assert_eq!(
            resources[1],
            json!({"verbs": ["get", "patch"], "apiGroups": [""], "resources": ["pods/status"]})
        );
        assert_eq!(policy().rules(&who("cloud"), "default").0.len(), 2);
        let (all, urls) = policy().rules(&who("system:masters"), "default");
        assert_eq!(all, [json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})]);
        assert_eq!(urls, [json!({"verbs": ["get"], "nonResourceURLs": ["*"]})]);
    }

    #[test]
    fn masters_may_all_and_strangers_nothing() {
        let policy = policy();
        assert!(policy.allows(&who("system:masters"), "delete", &target("nodes", "", "")));
        assert!(!policy.allows(&who("stranger"), "get", &target("pods", "a", "")));
        assert!(policy.allows_url(&who("all"), "/apis/apps/v1"));
        assert!(!policy.allows_url(&who("all"), "/metrics"));
        assert!(!policy.allows_url(&who("stranger"), "/version"));
    }
}
