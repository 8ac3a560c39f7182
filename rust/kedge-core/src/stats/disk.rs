// SPDX-License-Identifier: Apache-2.0
//! What directories take, and how full their file systems are.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A tree with more entries is measured so far and no further.
const MAX_ENTRIES: u64 = 200_000;
const BLOCK: u64 = 512;

/// What a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

/// A file system's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FileSystem {
    pub(super) capacity: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

/// What is below `path` on its own file system, each inode once; `None` when it is not there.
pub(super) fn taken(path: &Path) -> Option<Taken> {
    let top = fs::symlink_metadata(path).ok()?;
    let device = top.dev();
    let mut found = Taken { bytes: top.blocks() * BLOCK, inodes: 1 };
    let mut linked = HashSet::new();
    let mut left = if top.is_dir() { vec![path.to_owned()] } else { Vec::new() };
    while let Some(directory) = left.pop() {
        // What goes away meanwhile takes nothing.
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries.flatten() {
            let Ok(data) = entry.metadata() else { continue };
            if data.dev() != device
                || (data.nlink() > 1 && !data.is_dir()) && !linked.insert(data.ino())
            {
                continue;
            }
            found.bytes += data.blocks() * BLOCK;
            found.inodes += 1;
            if found.inodes >= MAX_ENTRIES {
                return Some(found);
            }
            if data.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Some(found)
}

/// The file system that `path` is on.
pub(super) fn file_system(path: &Path) -> Option<FileSystem> {
    if path.as_os_str().is_empty() {
        return None;
    }
    let found = rustix::fs::statvfs(path).ok()?;
    Some(FileSystem {
        capacity: found.f_blocks * found.f_frsize,
        available: found.f_bavail * found.f_frsize,
        used: (found.f_blocks - found.f_bfree) * found.f_frsize,
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}
