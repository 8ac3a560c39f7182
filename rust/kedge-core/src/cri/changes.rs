// SPDX-License-Identifier: Apache-2.0
//! What differs between two lists of sandboxes and containers; pure.

use std::collections::HashMap;

use super::proto;

/// The state of something that is no longer there.
pub(super) const GONE: i32 = -1;

/// One sandbox or container whose state is another than before.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Change {
    /// `sandbox` or `container`.
    pub(super) kind: &'static str,
    pub(super) id: String,
    /// The sandbox that it is, or is in.
    pub(super) sandbox_id: String,
    /// CRI's number, or `GONE`.
    pub(super) state: i32,
}

/// What was seen last.
#[derive(Default)]
pub(super) struct Known {
    sandboxes: HashMap<String, i32>,
    containers: HashMap<String, (String, i32)>,
}

impl Known {
    /// Takes new lists over and gives what differs from the ones before.
    pub(super) fn update(
        &mut self,
        sandboxes: Vec<proto::PodSandbox>,
        containers: Vec<proto::Container>,
    ) -> Vec<Change> {
        let sandboxes: HashMap<_, _> =
            sandboxes.into_iter().map(|one| (one.id, one.state)).collect();
        let containers: HashMap<_, _> =
            containers.into_iter().map(|one| (one.id, (one.pod_sandbox_id, one.state))).collect();
        let mut changes = Vec::new();
        for (id, &state) in &sandboxes {
            if self.sandboxes.get(id) != Some(&state) {
                changes.push(sandbox(id, state));
            }
        }
        for (id, now) in &containers {
            if self.containers.get(id) != Some(now) {
                changes.push(container(id, &now.0, now.1));
            }
        }
        let gone = self.containers.iter().filter(|(id, _)| !containers.contains_key(*id));
        changes.extend(gone.map(|(id, before)| container(id, &before.0, GONE)));
        let gone = self.sandboxes.keys().filter(|id| !sandboxes.contains_key(*id));
        changes.extend(gone.map(|id| sandbox(id, GONE)));
        *self = Self { sandboxes, containers };
        changes
    }
}

fn sandbox(id: &str, state: i32) -> Change {
    Change { kind: "sandbox", id: id.to_owned(), sandbox_id: id.to_owned(), state }
}

fn container(id: &str, sandbox_id: &str, state: i32) -> Change {
    Change { kind: "container", id: id.to_owned(), sandbox_id: sandbox_id.to_owned(), state }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(states: &[(&str, i32)]) -> (Vec<proto::PodSandbox>, Vec<proto::Container>) {
        let sandboxes = vec![proto::PodSandbox { id: "s".into(), ..Default::default() }];
        let containers = states.iter().map(|&(id, state)| proto::Container {
            id: id.into(),
            pod_sandbox_id: "s".into(),
            state,
            ..Default::default()
        });
        (sandboxes, containers.collect())
    }

    fn update(known: &mut Known, states: &[(&str, i32)]) -> Vec<Change> {
        let (sandboxes, containers) = lists(states);
        known.update(sandboxes, containers)
    }

    #[test]
    fn the_first_lists_are_all_new_and_the_same_again_is_no_change() {
        let mut known = Known::default();
        assert_eq!(update(&mut known, &[("c", 1)]).len(), 2);
        assert!(update(&mut known, &[("c", 1)]).is_empty());
    }

    #[test]
    fn an_exit_and_a_removal_are_one_change_each() {
        let mut known = Known::default();
        update(&mut known, &[("c", 1), ("d", 1)]);
        assert_eq!(update(&mut known, &[("c", 2), ("d", 1)]), vec![container("c", "s", 2)]);
        assert_eq!(update(&mut known, &[("c", 2)]), vec![container("d", "s", GONE)]);
    }

    #[test]
    fn a_reboot_takes_everything() {
        let mut known = Known::default();
        update(&mut known, &[("c", 1)]);
        let changes = known.update(Vec::new(), Vec::new());
        assert!(changes.iter().all(|change| change.state == GONE), "{changes:?}");
        assert_eq!(changes.len(), 2);
    }
}
