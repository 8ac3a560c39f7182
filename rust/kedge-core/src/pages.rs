// SPDX-License-Identifier: Apache-2.0
//! Pages of mapped files that this process need not keep resident: the kernel has them in its cache
//! and brings back what is touched again.

use std::path::Path;

use rustix::mm::{Advice, madvise};

/// Drops the resident pages of a mapped file.
///
/// Only right for a map that is never written through, which is how LMDB is opened here.
pub fn release_file(path: &Path) {
    if let Some(name) = path.to_str() {
        release(|line| line.ends_with(name));
    }
}

/// Drops the resident pages of this extension's code: most of it was needed to start, or belongs to
/// another role, and is only there because the kernel maps what lies around a page that is used.
pub fn release_code() {
    release(|line| {
        let file = line.rsplit('/').next().unwrap_or_default();
        // Executable and private, so never written to: its relocations are in other maps.
        line.contains(" r-xp ") && file.starts_with("_core.")
    });
}

#[allow(unsafe_code, reason = "MADV_DONTNEED on a map that is never written loses nothing")]
fn release(chosen: impl Fn(&str) -> bool) {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for line in maps.lines().filter(|line| chosen(line)) {
        let Some((from, until)) = line.split(' ').next().and_then(|range| range.split_once('-'))
        else {
            continue;
        };
        let (Ok(from), Ok(until)) =
            (usize::from_str_radix(from, 16), usize::from_str_radix(until, 16))
        else {
            continue;
        };
        // A refusal leaves the pages resident, which is no harm.
        // SAFETY: the callers choose maps of files whose pages are as the file has them.
        let _ =
            unsafe { madvise(from as *mut core::ffi::c_void, until - from, Advice::LinuxDontNeed) };
    }
}
