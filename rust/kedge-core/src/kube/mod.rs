// SPDX-License-Identifier: Apache-2.0
//! A client of an API server: requests, and list-watch into a store.
//!
//! `client` sends single requests over a few kept HTTP/1.1 connections; `connect` makes one (TLS 1.3,
//! CA pinned); `mirror` keeps a replica store equal to what the server has, a task per resource.
//! JSON only, any Kubernetes from 1.28 on. Not here: kubeconfig files, errors by reason; those are
//! the Python face's.

mod backoff;
mod client;
mod connect;
mod lines;
mod listing;
mod mirror;
mod service;
mod tickets;

pub use client::{Answer, Ask, Client};
pub use connect::Options;
pub use mirror::{Mirror, Notice, Row};
pub use service::ApiService;
pub use tickets::Tickets;
