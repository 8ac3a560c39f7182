// SPDX-License-Identifier: Apache-2.0
//! Who has which rules: bindings by subject, roles by key.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use super::GROUP;
use super::rules::{Rule, list};
use crate::kubeapi::policy::Identity;
use crate::store::Key;

const ACCOUNT_USER: &str = "system:serviceaccount:";

/// A user by name (accounts by their user names), or a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

#[derive(Debug)]
struct Binding {
    subjects: Vec<Subject>,
    role: Key,
}

/// All roles and bindings of a store.
#[derive(Debug, Default)]
pub(super) struct Index {
    roles: HashMap<Key, Vec<Rule>>,
    bindings: HashMap<Key, Binding>,
    by_subject: HashMap<Subject, BTreeSet<Key>>,
}

impl Index {
    /// Takes in an object as it is now; none when it is gone. One that cannot be read counts as gone.
    pub(super) fn apply(&mut self, key: &Key, value: Option<&[u8]>) {
        if matches!(key.resource.as_str(), "roles" | "clusterroles") {
            match value.and_then(rules) {
                Some(rules) => self.roles.insert(key.clone(), rules),
                None => self.roles.remove(key),
            };
            return;
        }
        if let Some(old) = self.bindings.remove(key) {
            for subject in old.subjects {
                if let Some(keys) = self.by_subject.get_mut(&subject) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.by_subject.remove(&subject);
                    }
                }
            }
        }
        if let Some(binding) = value.and_then(|value| binding(key, value)) {
            for subject in &binding.subjects {
                self.by_subject.entry(subject.clone()).or_default().insert(key.clone());
            }
            self.bindings.insert(key.clone(), binding);
        }
    }

    /// The rules that `who` has in `namespace`; those of the whole cluster alone when it is empty.
    pub(super) fn rules_of<'a>(
        &'a self,
        who: &Identity,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Rule> {
        let user = std::iter::once(Subject::User(who.user.clone()));
        let groups = who.groups.iter().cloned().map(Subject::Group);
        let subjects: Vec<Subject> = user.chain(groups).collect();
        let keys = subjects.into_iter().filter_map(|subject| self.by_subject.get(&subject));
        keys.flatten()
            .filter(move |key| key.namespace.is_empty() || key.namespace == namespace)
            .filter_map(|key| self.roles.get(&self.bindings.get(key)?.role))
            .flatten()
    }
}

fn rules(value: &[u8]) -> Option<Vec<Rule>> {
    #[derive(Deserialize)]
    struct Role {
        #[serde(default, deserialize_with = "list")]
        rules: Vec<Rule>,
    }
    serde_json::from_slice::<Role>(value).ok().map(|role| role.rules)
}

fn binding(key: &Key, value: &[u8]) -> Option<Binding> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Stored {
        role_ref: Reference,
        #[serde(default, deserialize_with = "list")]
        subjects: Vec<Reference>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Reference {
        kind: String,
        name: String,
        namespace: String,
    }
    let Stored { role_ref, subjects } = serde_json::from_slice(value).ok()?;
    let role = if role_ref.kind == "Role" {
        Key::new(GROUP, "roles", &key.namespace, &role_ref.name)
    } else {
        Key::new(GROUP, "clusterroles", "", &role_ref.name)
    };
    let subjects = subjects.into_iter().filter_map(|one| match one.kind.as_str() {
        "User" => Some(Subject::User(one.name)),
        "Group" => Some(Subject::Group(one.name)),
        "ServiceAccount" => {
            let namespace = if one.namespace.is_empty() { &key.namespace } else { &one.namespace };
            Some(Subject::User(format!("{ACCOUNT_USER}{namespace}:{}", one.name)))
        }
        _ => None,
    });
    Some(Binding { subjects: subjects.collect(), role })
}
