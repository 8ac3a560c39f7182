// SPDX-License-Identifier: Apache-2.0
//! The node's plugins: CSI drivers and device plugins, called over their Unix sockets and calling ours.
//!
//! Python decides which plugin is asked what (`Calls`) and what a plugin that asks is told (`Server`:
//! device plugins register, monitoring agents list pods' resources). Messages are JSON with the field
//! names of the files in `proto/`. Nothing runs before Python asks for it.

mod authority;
mod calls;
mod methods;
mod server;

pub use calls::{Calls, Row};
pub use server::{Asked, Server};

/// The messages of the plugins' interfaces, generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
pub(crate) mod proto {
    pub(crate) mod csi {
        include!(concat!(env!("OUT_DIR"), "/csi.v1.rs"));
    }
    pub(crate) mod devices {
        include!(concat!(env!("OUT_DIR"), "/v1beta1.rs"));
    }
    pub(crate) mod registration {
        include!(concat!(env!("OUT_DIR"), "/pluginregistration.rs"));
    }
    pub(crate) mod resources {
        include!(concat!(env!("OUT_DIR"), "/v1.rs"));
    }
}
