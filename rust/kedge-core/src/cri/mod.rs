// SPDX-License-Identifier: Apache-2.0
//! A client of the container runtime interface, CRI v1, over a Unix socket.
//!
//! One connection, made when first needed and made again when the runtime restarts. Requests and
//! answers are JSON with the field names of `proto/cri_v1.proto` (bytes are base64), because the
//! caller is Python and builds dictionaries. Every call has a deadline; every message and the number
//! of calls under way have a limit. A failure keeps its gRPC code and message.
//!
//! What changed in the runtime is found by comparing lists (`changes`), and a list is made when there
//! is reason to (`watch`): the runtime's event stream says so, or a start just happened, or time passed.

pub(crate) mod base64_bytes;
mod calls;
mod changes;
mod client;
mod methods;
mod watch;

pub use calls::{Calls, Row};
pub use client::{Client, Failure};

/// The messages of CRI and of containerd's event stream, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));

    pub(crate) mod containerd {
        include!(concat!(env!("OUT_DIR"), "/containerd.services.events.v1.rs"));
    }
}

/// The largest message, either way.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;
