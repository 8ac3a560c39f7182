// SPDX-License-Identifier: Apache-2.0
//! Objects that are needed because of what they say of others: the bindings of a `ServiceAccount`, the
//! bundles of a signer.
//!
//! A binding is a member of the collections of its subjects, a `ServiceAccount` needs the members
//! of its own and of the groups that every account is in. Subjects that are no accounts of pods
//! (people, other groups) make no collection: no node needs them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use crate::sync::Key;

/// The group of roles and their bindings.
pub(super) const RBAC: &str = "rbac.authorization.k8s.io";
/// The group of certificates.
pub(super) const CERTIFICATES: &str = "certificates.k8s.io";
const ACCOUNT_USER: &str = "system:serviceaccount:";
const ALL_ACCOUNTS: &str = "system:serviceaccounts";
const EVERYBODY: &str = "system:authenticated";
/// What stands for all bundles of a signer: an object that never exists.
const SIGNERS: (&str, &str) = ("kedge.io", "signers");

/// A collection, by what it is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Name {
    /// Everybody that is known, thus every account.
    Everybody,
    /// All accounts.
    Accounts,
    /// All accounts of a namespace.
    Namespace(String),
    /// One account: namespace and name.
    Account(String, String),
    /// The bundles of a signer.
    Signer(String),
}

/// The key that a pod needs to get all bundles of a signer.
pub(super) fn signer_key(signer: &str) -> Key {
    Key::of(SIGNERS.0, SIGNERS.1, "", signer)
}

/// Members by collection, and collections by member.
#[derive(Debug, Default)]
pub(super) struct Collections {
    members: HashMap<Name, BTreeSet<Arc<Key>>>,
    names: HashMap<Arc<Key>, Vec<Name>>,
}

impl Collections {
    /// Takes in a change; the collections that it left or entered.
    pub(super) fn update(&mut self, key: &Key, value: Option<&[u8]>) -> BTreeSet<Name> {
        let Some(kind) = Member::of(key) else { return BTreeSet::new() };
        let names = value.map(|value| kind.names(key, value)).unwrap_or_default();
        let mut touched = BTreeSet::new();
        let key = match self.names.remove_entry(key) {
            Some((key, before)) => {
                for name in before {
                    self.leave(&name, &key);
                    touched.insert(name);
                }
                key
            }
            None => Arc::new(key.clone()),
        };
        for name in &names {
            self.members.entry(name.clone()).or_default().insert(Arc::clone(&key));
            touched.insert(name.clone());
        }
        if !names.is_empty() {
            self.names.insert(key, names);
        }
        touched
    }

    fn leave(&mut self, name: &Name, key: &Arc<Key>) {
        if let Some(members) = self.members.get_mut(name) {
            members.remove(key);
            if members.is_empty() {
                self.members.remove(name);
            }
        }
    }

    /// What `key` needs for the collections that it stands for; sorted, each once.
    pub(super) fn members_of(&self, key: &Key) -> Vec<Arc<Key>> {
        let found: BTreeSet<&Arc<Key>> =
            names_of(key).iter().filter_map(|name| self.members.get(name)).flatten().collect();
        found.into_iter().map(Arc::clone).collect()
    }
}

/// The collections that an object stands for.
fn names_of(key: &Key) -> Vec<Name> {
    match (key.group.as_str(), key.resource.as_str()) {
        ("", "serviceaccounts") => vec![
            Name::Account(key.namespace.clone(), key.name.clone()),
            Name::Namespace(key.namespace.clone()),
            Name::Accounts,
            Name::Everybody,
        ],
        SIGNERS => vec![Name::Signer(key.name.clone())],
        _ => Vec::new(),
    }
}

/// Whether an object stands for this collection.
pub(super) fn stands_for(key: &Key, name: &Name) -> bool {
    names_of(key).contains(name)
}

/// What can be a member.
#[derive(Clone, Copy)]
enum Member {
    Binding,
    Bundle,
}

impl Member {
    fn of(key: &Key) -> Option<Self> {
        match (key.group.as_str(), key.resource.as_str()) {
            (RBAC, "rolebindings" | "clusterrolebindings") => Some(Self::Binding),
            (CERTIFICATES, "clustertrustbundles") => Some(Self::Bundle),
            _ => None,
        }
    }

    fn names(self, key: &Key, value: &[u8]) -> Vec<Name> {
        match self {
            Self::Binding => subjects(key, value),
            Self::Bundle => signer(value).into_iter().collect(),
        }
    }
}

#[derive(Deserialize)]
struct Binding {
    subjects: Option<Vec<Subject>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

fn subjects(key: &Key, value: &[u8]) -> Vec<Name> {
    let Ok(binding) = serde_json::from_slice::<Binding>(value) else { return Vec::new() };
    let mut names: Vec<Name> =
        binding.subjects.unwrap_or_default().into_iter().filter_map(|s| subject(key, s)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn subject(key: &Key, subject: Subject) -> Option<Name> {
    let Subject { kind, name, namespace } = subject;
    match kind.as_str() {
        "ServiceAccount" if namespace.is_empty() => {
            Some(Name::Account(key.namespace.clone(), name))
        }
        "ServiceAccount" => Some(Name::Account(namespace, name)),
        "User" => {
            let (namespace, name) = name.strip_prefix(ACCOUNT_USER)?.split_once(':')?;
            Some(Name::Account(namespace.to_owned(), name.to_owned()))
        }
        "Group" if name == EVERYBODY => Some(Name::Everybody),
        "Group" if name == ALL_ACCOUNTS => Some(Name::Accounts),
        "Group" => {
            let namespace = name.strip_prefix(ALL_ACCOUNTS)?.strip_prefix(':')?;
            Some(Name::Namespace(namespace.to_owned()))
        }
        _ => None,
    }
}

fn signer(value: &[u8]) -> Option<Name> {
    #[derive(Deserialize)]
    struct Bundle {
        spec: Spec,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        signer_name: String,
    }
    let bundle: Bundle = serde_json::from_slice(value).ok()?;
    Some(Name::Signer(bundle.spec.signer_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(name: &str) -> Key {
        Key::of(RBAC, "rolebindings", "d", name)
    }

    fn members(collections: &Collections, key: &Key) -> Vec<String> {
        collections.members_of(key).iter().map(|key| key.name.clone()).collect()
    }

    #[test]
    fn a_binding_is_needed_by_the_accounts_that_its_subjects_name() {
        let mut collections = Collections::default();
        let account = |namespace: &str, name: &str| Key::of("", "serviceaccounts", namespace, name);
        let add = |collections: &mut Collections, name: &str, subject: &str| {
            let json = format!(r#"{{"subjects":[{subject}]}}"#);
            collections.update(&binding(name), Some(json.as_bytes()));
        };
        add(&mut collections, "own", r#"{"kind":"ServiceAccount","name":"a"}"#);
        add(&mut collections, "other", r#"{"kind":"ServiceAccount","name":"a","namespace":"e"}"#);
        add(&mut collections, "user", r#"{"kind":"User","name":"system:serviceaccount:d:a"}"#);
        add(&mut collections, "people", r#"{"kind":"Group","name":"developers"}"#);
        add(&mut collections, "all", r#"{"kind":"Group","name":"system:serviceaccounts"}"#);
        add(&mut collections, "space", r#"{"kind":"Group","name":"system:serviceaccounts:e"}"#);
        add(&mut collections, "every", r#"{"kind":"Group","name":"system:authenticated"}"#);
        let of_d = members(&collections, &account("d", "a"));
        assert_eq!(of_d, ["all", "every", "own", "user"]);
        let of_e = members(&collections, &account("e", "a"));
        assert_eq!(of_e, ["all", "every", "other", "space"]);
        assert_eq!(members(&collections, &account("e", "b")), ["all", "every", "space"]);
    }

    #[test]
    fn a_change_tells_the_collections_that_are_left_and_entered() {
        let mut collections = Collections::default();
        let json = br#"{"subjects":[{"kind":"ServiceAccount","name":"a"}]}"#;
        let a = Name::Account("d".into(), "a".into());
        assert_eq!(collections.update(&binding("b"), Some(json)), BTreeSet::from([a.clone()]));
        let json = br#"{"subjects":[{"kind":"Group","name":"system:serviceaccounts"}]}"#;
        let both = BTreeSet::from([a, Name::Accounts]);
        assert_eq!(collections.update(&binding("b"), Some(json)), both);
        assert_eq!(collections.update(&binding("b"), None), BTreeSet::from([Name::Accounts]));
        assert!(collections.members.is_empty() && collections.names.is_empty());
    }

    #[test]
    fn bundles_are_found_by_their_signer() {
        let mut collections = Collections::default();
        let bundle = Key::of(CERTIFICATES, "clustertrustbundles", "", "s:x:1");
        collections.update(&bundle, Some(br#"{"spec":{"signerName":"s/x","trustBundle":""}}"#));
        assert_eq!(members(&collections, &signer_key("s/x")), ["s:x:1"]);
        assert!(members(&collections, &signer_key("s/y")).is_empty());
    }
}
