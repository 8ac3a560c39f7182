// SPDX-License-Identifier: Apache-2.0
//! The kubelet server on a socket of the node's directory, for whoever may open that: root.
//!
//! No port and no certificate: the file's mode (0600) says who may ask.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::server::KubeletServer;
use crate::Result;
use crate::runtime::Runtime;

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 32;
const MODE: u32 = 0o600;

/// Serves on a socket at `path`, in a task; what is there is replaced.
pub(super) fn listen(server: &KubeletServer, runtime: &Runtime, path: &Path) -> Result<()> {
    let listener = bind(path)?;
    listener.set_nonblocking(true)?;
    let (server, tasks) = (server.clone(), runtime.clone());
    runtime.spawn(async move {
        let listener = match UnixListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return log::error!("the local socket cannot be served: {error}"),
        };
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((connection, _)) => {
                    let served = server.serve_to_end(connection);
                    tasks.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                // Out of descriptors, most likely: those that end make room.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(())
}

/// A socket that was never open to others: bound aside, closed to them, then put in place.
fn bind(path: &Path) -> Result<StdListener> {
    let (parent, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name());
    let fresh = format!("{}.new", name.unwrap_or_default().to_string_lossy());
    // A socket's path may have 107 bytes, a directory's more: through its descriptor it is short.
    let mut options = fs::OpenOptions::new();
    let directory: File = options.read(true).custom_flags(libc::O_DIRECTORY).open(parent)?;
    let bound = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(fresh);
    match fs::remove_file(&bound) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = StdListener::bind(&bound)?;
    fs::set_permissions(&bound, Permissions::from_mode(MODE))?;
    fs::rename(&bound, path)?;
    Ok(listener)
}
