// SPDX-License-Identifier: Apache-2.0
//! Waiting until something happens in a directory (inotify): a log grows, a socket comes.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// How often to look where the kernel tells nothing.
const BLIND: Duration = Duration::from_millis(500);

/// A directory under watch; blind when the kernel has no watch to spare.
pub(crate) struct DirectoryWatch {
    descriptor: Option<AsyncFd<OwnedFd>>,
}

impl DirectoryWatch {
    /// Watches what is written, made and moved there.
    pub(crate) fn new(directory: &Path) -> Self {
        Self::of(directory, inotify::WatchFlags::MODIFY)
    }

    /// Watches what comes and goes there, whatever is written.
    pub(crate) fn of_names(directory: &Path) -> Self {
        Self::of(directory, inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM)
    }

    fn of(directory: &Path, more: inotify::WatchFlags) -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let wanted = more
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE_SELF;
        let descriptor = inotify::init(flags)
            .ok()
            .filter(|fd| inotify::add_watch(fd, directory, wanted).is_ok())
            .and_then(register);
        Self { descriptor }
    }

    /// Returns when something has happened since the last call.
    pub(crate) async fn changed(&self) {
        let Some(descriptor) = &self.descriptor else {
            return tokio::time::sleep(BLIND).await;
        };
        let Ok(mut guard) = descriptor.readable().await else {
            return tokio::time::sleep(BLIND).await;
        };
        let mut room = [MaybeUninit::uninit(); 1024];
        // What happened does not matter: the reader looks at the file itself.
        while let Ok((read, _)) = rustix::io::read(descriptor.get_ref(), &mut room) {
            if read.is_empty() {
                break;
            }
        }
        guard.clear_ready();
    }
}

#[allow(unsafe_code, reason = "an OwnedFd is the same open descriptor until it is dropped")]
fn register(descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` gives the one descriptor that it owns and closes it when dropped, no earlier.
    unsafe { AsyncFd::register(descriptor) }.ok()
}
