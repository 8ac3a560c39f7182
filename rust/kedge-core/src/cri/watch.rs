// SPDX-License-Identifier: Apache-2.0
//! Notices what changed in the runtime: lists when there is reason to, and compares.
//!
//! Reasons, best first: CRI's event stream (containerd 2), containerd's own event stream (1.x, the same
//! socket), a call of ours that changed something, time. A reason is followed by a few lists at growing
//! distance, because a runtime may tell before its own lists show it; then the loop sleeps for
//! `idle_with_stream`, a net for events that got lost, or for `idle` when there is no stream.
//! Lists that find the runtime away are tried again; what was known stays known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::{Code, Status};

use super::changes::{Change, Known};
use super::proto;
use crate::grpc::Client;

const LIST_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);
/// A runtime that does not have a stream says so within this time.
const REFUSAL: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_millis(10);
const CRI_EVENTS: &str = "/runtime.v1.RuntimeService/GetContainerEvents";
const CONTAINERD_EVENTS: &str = "/containerd.services.events.v1.Events/Subscribe";
const EXITS: &str = r#"topic=="/tasks/exit",namespace=="k8s.io""#;

/// How often to list.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// After a reason; doubles from there.
    pub(super) first: Duration,
    /// The longest wait when no stream tells.
    pub(super) idle: Duration,
    /// The longest wait while a stream tells.
    pub(super) idle_with_stream: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            idle: Duration::from_secs(1),
            idle_with_stream: Duration::from_secs(10),
        }
    }
}

/// A reason to look, from anywhere.
#[derive(Clone, Default)]
pub(super) struct Bell {
    ring: Arc<Notify>,
    has_stream: Arc<AtomicBool>,
}

impl Bell {
    /// Something happened in the runtime.
    pub(super) fn ring(&self) {
        self.ring.notify_one();
    }

    /// A call of ours may have changed something; a stream tells what matters, if there is one.
    pub(super) fn called(&self) {
        if !self.has_stream.load(Ordering::Relaxed) {
            self.ring.notify_one();
        }
    }

    fn set_stream(&self, is_there: bool) {
        self.has_stream.store(is_there, Ordering::Relaxed);
        self.ring.notify_one();
    }
}

/// Lists and compares until dropped; `told` gets every batch of changes, the first one being all there is.
pub(super) async fn run<F, Fut>(client: Client, bell: Bell, pace: Pace, mut told: F)
where
    F: FnMut(Vec<Change>) -> Fut,
    Fut: Future<Output = bool>,
{
    let mut known = Known::default();
    let mut wait = pace.first;
    loop {
        match lists(&client).await {
            Ok((sandboxes, containers)) => {
                let changes = known.update(sandboxes, containers);
                if !changes.is_empty() {
                    wait = pace.first;
                    if !told(changes).await {
                        return;
                    }
                }
            }
            Err(status) => {
                log::debug!("the runtime cannot be listed: {}", status.message());
                sleep(RETRY).await;
                continue;
            }
        }
        let earliest = Instant::now() + pace.first;
        let is_fed = bell.has_stream.load(Ordering::Relaxed);
        let longest = if is_fed { pace.idle_with_stream } else { pace.idle };
        let rung = timeout(wait.min(longest), bell.ring.notified()).await.is_ok();
        if rung {
            // Several reasons at once are one list, and lists have a distance.
            sleep_until(earliest.max(Instant::now() + SETTLE)).await;
            wait = pace.first;
        } else {
            wait = next_wait(wait, longest, pace.idle);
        }
    }
}

/// Doubles up to the idle pace; a stream then lets the loop sleep at once.
fn next_wait(wait: Duration, longest: Duration, idle: Duration) -> Duration {
    let doubled = wait * 2;
    if doubled >= idle { longest } else { doubled }
}

async fn lists(client: &Client) -> Result<(Vec<proto::PodSandbox>, Vec<proto::Container>), Status> {
    let sandboxes = client.unary::<_, proto::ListPodSandboxResponse>(
        "/runtime.v1.RuntimeService/ListPodSandbox",
        proto::ListPodSandboxRequest::default(),
        LIST_TIMEOUT,
    );
    let containers = client.unary::<_, proto::ListContainersResponse>(
        "/runtime.v1.RuntimeService/ListContainers",
        proto::ListContainersRequest::default(),
        LIST_TIMEOUT,
    );
    let both = async { tokio::try_join!(sandboxes, containers) };
    let late = |_elapsed| Status::deadline_exceeded("no lists in time");
    let (sandboxes, containers) = timeout(LIST_TIMEOUT, both).await.map_err(late)??;
    Ok((sandboxes.items, containers.containers))
}

/// Rings the bell for what the runtime's event stream says, as long as it has one.
pub(super) async fn listen(client: Client, bell: Bell) {
    loop {
        let cri = follow::<_, proto::ContainerEventResponse>(
            &client,
            &bell,
            CRI_EVENTS,
            proto::GetEventsRequest::default(),
            |_| true,
        );
        let mut ended = cri.await;
        if is_missing(&ended) {
            let filters = proto::containerd::SubscribeRequest { filters: vec![EXITS.to_owned()] };
            let own = follow::<_, proto::containerd::Envelope>(
                &client,
                &bell,
                CONTAINERD_EVENTS,
                filters,
                is_of_a_container,
            );
            ended = own.await;
            if is_missing(&ended) {
                log::debug!("the runtime has no event stream: it is listed every second");
                return;
            }
        }
        bell.set_stream(false);
        sleep(RETRY).await;
    }
}

fn is_missing(ended: &Result<(), Status>) -> bool {
    matches!(ended, Err(status) if status.code() == Code::Unimplemented)
}

async fn follow<Q, A>(
    client: &Client,
    bell: &Bell,
    path: &'static str,
    request: Q,
    matters: fn(&A) -> bool,
) -> Result<(), Status>
where
    Q: prost::Message + 'static,
    A: prost::Message + Default + 'static,
{
    let opening = client.stream::<Q, A>(path, request);
    tokio::pin!(opening);
    let mut stream = match timeout(REFUSAL, &mut opening).await {
        Ok(opened) => opened?,
        // A server that has nothing to tell yet keeps its headers back: it listens all the same.
        Err(_elapsed) => {
            bell.set_stream(true);
            opening.await?
        }
    };
    bell.set_stream(true);
    while let Some(told) = stream.message().await? {
        if matters(&told) {
            bell.ring();
        }
    }
    Ok(())
}

/// Whether a container has ended. The end of what was run in one (exec, a probe) changes no list, and
/// probes run all the time.
fn is_of_a_container(told: &proto::containerd::Envelope) -> bool {
    let Some(event) = &told.event else { return true };
    // One that cannot be read is a reason to look.
    proto::containerd::TaskExit::decode(event.value.as_slice())
        .map_or(true, |exit| exit.id.is_empty() || exit.id == exit.container_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_inside_a_container_is_no_reason_to_look() {
        let told = |value: Vec<u8>| {
            let event =
                proto::containerd::Event { type_url: "containerd.events.TaskExit".into(), value };
            proto::containerd::Envelope { event: Some(event), ..Default::default() }
        };
        let exit = |id: &str| {
            let exit = proto::containerd::TaskExit { container_id: "c1".into(), id: id.into() };
            is_of_a_container(&told(exit.encode_to_vec()))
        };
        assert!(exit("c1"));
        assert!(!exit("6f2a"));
        assert!(exit(""), "one that does not say whose");
        assert!(is_of_a_container(&told(vec![0xff])), "one that cannot be read");
        assert!(is_of_a_container(&proto::containerd::Envelope::default()));
    }

    #[test]
    fn waits_double_up_to_the_idle_pace_and_a_stream_then_sleeps_long() {
        let pace = Pace::default();
        let mut wait = pace.first;
        let mut waits = Vec::new();
        for _ in 0..7 {
            wait = next_wait(wait, pace.idle_with_stream, pace.idle);
            waits.push(wait.as_millis());
        }
        assert_eq!(waits, [100, 200, 400, 800, 10_000, 10_000, 10_000]);
    }
}
