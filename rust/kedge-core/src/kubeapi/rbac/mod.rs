// SPDX-License-Identifier: Apache-2.0
//! RBAC, decided from the roles and bindings in the store that is served.
//!
//! The index follows the store when it is asked: a decision sees every role and binding that was
//! committed before it, nothing runs while nobody asks, and a store that never has a role costs
//! nothing. `rules` says what a rule covers, `index` who has which. Not here: who asks (`auth`), the
//! fixed rows for kedge's own parts (`policy`), aggregation of roles (a controller's).
//!
//! Source: `rbac.authorization.k8s.io/v1` as Kubernetes documents it.

mod index;
mod rules;

use parking_lot::RwLock;
use serde_json::Value;

use index::Index;
use rules::Rule;

pub(super) use rules::Access;

use super::policy::Identity;
use crate::store::{EventKind, ListQuery, Store, WatchQuery, Watcher};
use crate::{Error, Kind, Result};

const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// Decides by roles and bindings.
pub(super) struct Rbac {
    store: Store,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    index: Index,
    watcher: Option<Watcher>,
}

impl Rbac {
    /// Decides from what `store` holds at the time.
    pub(super) fn new(store: Store) -> Self {
        Self { store, state: RwLock::default() }
    }

    /// Whether a role of `who` covers `access` in `namespace`; empty is the whole cluster.
    pub(super) fn allows(&self, who: &Identity, namespace: &str, access: &Access<'_>) -> bool {
        self.ask(|index| index.rules_of(who, namespace).any(|rule| rule.covers(access)))
    }

    /// The rules of `who` in `namespace` as a review has them: those for resources, those for paths.
    pub(super) fn rules(&self, who: &Identity, namespace: &str) -> (Vec<Value>, Vec<Value>) {
        self.ask(|index| {
            let rules = index.rules_of(who, namespace).map(Rule::described);
            let (resources, urls): (Vec<_>, Vec<_>) = rules.unzip();
            (resources.into_iter().flatten().collect(), urls.into_iter().flatten().collect())
        })
    }

    /// The rules in `wanted` (JSON, as a role has them) that `who` does not have all of.
    pub(super) fn missing(
        &self,
        who: &Identity,
        namespace: &str,
        wanted: &str,
    ) -> Result<Vec<String>> {
        let wanted: Vec<Rule> = serde_json::from_str(wanted)
            .map_err(|error| Error::new(Kind::Invalid, format!("rules: {error}")))?;
        Ok(self.ask(|index| {
            let parts = wanted.iter().flat_map(Rule::parts);
            parts
                .filter(|part| {
                    !index.rules_of(who, namespace).any(|rule| rule.covers(&part.access()))
                })
                .map(|part| part.to_string())
                .collect()
        }))
    }

    /// Answers from an index that is as new as the store.
    fn ask<R>(&self, question: impl FnOnce(&Index) -> R) -> R {
        let newest = self.store.revision();
        {
            let state = self.state.read();
            if state.watcher.as_ref().is_some_and(|watcher| watcher.revision() >= newest) {
                return question(&state.index);
            }
        }
        let mut state = self.state.write();
        if let Err(error) = state.catch_up(&self.store) {
            // Whoever has no role that can be read has none.
            log::error!("roles cannot be read: {error}");
            *state = State::default();
        }
        question(&state.index)
    }
}

impl State {
    fn catch_up(&mut self, store: &Store) -> Result<()> {
        loop {
            let Some(watcher) = &mut self.watcher else {
                self.load(store)?;
                continue;
            };
            match watcher.try_next() {
                Ok(None) => return Ok(()),
                Ok(Some(batch)) => {
                    for event in batch {
                        let value = (event.kind == EventKind::Put).then_some(event.value.as_ref());
                        self.index.apply(&event.key, value);
                    }
                }
                Err(error) if error.kind == Kind::Gone => self.watcher = None,
                Err(error) => return Err(error),
            }
        }
    }

    fn load(&mut self, store: &Store) -> Result<()> {
        self.index = Index::default();
        let from = store.revision();
        let resources = RESOURCES.map(|resource| (GROUP.to_owned(), resource.to_owned()));
        let query = WatchQuery { resources: resources.to_vec(), ..WatchQuery::default() };
        for resource in RESOURCES {
            let query = ListQuery {
                group: GROUP.to_owned(),
                resource: resource.to_owned(),
                ..ListQuery::default()
            };
            for item in store.list(&query)?.items {
                self.index.apply(&item.key, Some(&item.value));
            }
        }
        self.watcher = Some(store.watch(&query, from)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
