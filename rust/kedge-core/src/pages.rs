// SPDX-License-Identifier: Apache-2.0
//! Pages of mapped files that this process need not keep resident: the kernel has them in its cache
//! and brings back what is touched again.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
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

/// Drops the resident pages of programs: this extension's, and those of the libraries and the
/// interpreter around it. Most of them were needed to start, or belong to another role, and are only there
/// because the kernel maps what lies around a page that is used.
pub fn release_code() {
    let Ok(file) = File::open("/proc/self/smaps") else { return };
    let program = std::env::current_exe().unwrap_or_default();
    let mut range = None;
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        let is_range = line.split(' ').next().is_some_and(|word| !word.ends_with(':'));
        if is_range {
            range = range_of(&line).filter(|_| is_program(&line, &program));
        } else if is_untouched(&line)
            && let Some(found) = range.take()
        {
            release_range(found);
        }
    }
}

/// Whether a map is a read-only part of a program. Libraries stay where they are until the process ends.
fn is_program(line: &str, program: &Path) -> bool {
    let mut words = line.splitn(6, ' ').map(str::trim);
    let (Some("r-xp" | "r--p"), Some(path)) = (words.nth(1), words.nth(3)) else { return false };
    let name = path.rsplit('/').next().unwrap_or_default();
    path.starts_with('/')
        && (Path::new(path) == program || name.split('.').skip(1).any(|part| part == "so"))
}

/// Whether a line says that the map has no page of its own: all are as the file has them. Relocated
/// ones are not, although nobody may write to them any more.
fn is_untouched(line: &str) -> bool {
    line.strip_prefix("Anonymous:").is_some_and(|rest| rest.trim() == "0 kB")
}

fn release(chosen: impl Fn(&str) -> bool) {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for line in maps.lines().filter(|line| chosen(line)) {
        if let Some(range) = range_of(line) {
            release_range(range);
        }
    }
}

fn range_of(line: &str) -> Option<Range<usize>> {
    let (from, until) = line.split(' ').next()?.split_once('-')?;
    Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(until, 16).ok()?)
}

#[allow(unsafe_code, reason = "MADV_DONTNEED on a map that is never written loses nothing")]
fn release_range(range: Range<usize>) {
    let start = range.start as *mut core::ffi::c_void;
    // A refusal leaves the pages resident, which is no harm.
    // SAFETY: the callers choose maps of files whose pages are as the file has them.
    let _ = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_read_only_maps_of_programs_are_chosen() {
        let chosen = |mode: &str, path: &str| {
            let line = format!("7f0000000000-7f0000002000 {mode} 00001000 fe:00 1234       {path}");
            assert_eq!(range_of(&line), Some(0x7f00_0000_0000..0x7f00_0000_2000));
            is_program(&line, Path::new("/usr/bin/python3.11"))
        };
        assert!(chosen("r-xp", "/usr/lib/libpython3.11.so.1.0"));
        assert!(chosen("r--p", "/opt/a b/_core.abi3.so"));
        assert!(chosen("r-xp", "/usr/bin/python3.11"));
        assert!(!chosen("rw-p", "/usr/lib/libpython3.11.so.1.0"), "its variables");
        assert!(!chosen("r--s", "/usr/lib/libpython3.11.so.1.0"));
        assert!(!chosen("r--p", "/usr/lib/locale/C.utf8/LC_CTYPE"), "it may be unmapped");
        assert!(!chosen("r-xp", "[vdso]"));
        assert!(!chosen("r--p", ""));
    }

    #[test]
    fn a_map_with_pages_of_its_own_is_not_untouched() {
        assert!(is_untouched("Anonymous:             0 kB"));
        assert!(!is_untouched("Anonymous:            40 kB"));
        assert!(!is_untouched("AnonHugePages:         0 kB"));
    }

    #[test]
    fn code_runs_on_after_its_pages_were_dropped() {
        let words: Vec<String> = (0..100).map(|at| format!("{at:x}")).collect();
        release_code();
        assert_eq!(words.concat().len(), 16 + 84 * 2);
    }
}
