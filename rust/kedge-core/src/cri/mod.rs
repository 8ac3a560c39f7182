// SPDX-License-Identifier: Apache-2.0
//! A client of the container runtime interface, CRI v1, over a Unix socket.
//!
//! Requests and answers are JSON with the field names of `proto/cri_v1.proto` (`grpc`). Every call has
//! a deadline; every message and the number of calls under way have a limit.
//!
//! What changed in the runtime is found by comparing lists (`changes`), and a list is made when there
//! is reason to (`watch`): the runtime's event stream says so, or a start just happened, or time passed.

mod calls;
mod changes;
mod methods;
mod watch;

pub use calls::{Calls, Row};

/// The messages of CRI and of containerd's event stream, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));

    pub(crate) mod containerd {
        include!(concat!(env!("OUT_DIR"), "/containerd.services.events.v1.rs"));
    }
}
