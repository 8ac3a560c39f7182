// SPDX-License-Identifier: Apache-2.0
//! The node's kubelet server, reached through the link: HTTP/1.1 on the tunnels of service `kubelet`;
//! and on the node itself through a socket that only root opens.
//!
//! Python decides what a request means (which container, allowed or not) and answers small things
//! itself; what flows is carried here: log files, and the streams of exec, attach and port-forward,
//! which are passed on to the container runtime's own streaming server. Nothing is in memory for it
//! while nobody asks.

mod lines;
mod local;
mod logs;
mod server;
mod stream;
#[cfg(test)]
mod tests;

pub use lines::Selection;
pub use logs::LogRequest;
pub use server::{Asked, KubeletServer, Reply};
