// SPDX-License-Identifier: Apache-2.0
//! gRPC over Unix sockets with JSON at the edge: what the container runtime and plugins are asked.
//!
//! One connection per server, made when first needed and made again when the server restarts. Requests
//! and answers are JSON with the field names of the files in `proto/` (bytes are base64), because the
//! caller is Python and builds dictionaries. Every call has a deadline; every message has a limit. A
//! failure keeps its gRPC code and message. Which methods there are is a table (`methods`).

pub(crate) mod base64_bytes;
mod client;
pub(crate) mod methods;

pub(crate) use client::within;
pub use client::{Client, Failure};

/// The largest message, either way.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 << 20;
