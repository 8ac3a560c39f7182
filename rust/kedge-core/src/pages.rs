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
    untouched(BufReader::new(file).lines().map_while(Result::ok), &program, release_range);
}

/// Calls `found` with each map of programs in the lines of `smaps` whose pages are all as the file has them.
fn untouched(
    lines: impl Iterator<Item = String>,
    program: &Path,
    mut found: impl FnMut(Range<usize>),
) {
    let mut range = None;
    for line in lines {
        let is_range = line.split(' ').next().is_some_and(|word| !word.ends_with(':'));
        if is_range {
            range = range_of(&line).filter(|_| is_program(&line, program));
        } else if has_own_pages(&line) {
            range = None;
        } else if line.starts_with("Swap:")
            && let Some(range) = range.take()
        {
            // The last of the lines that count such pages.
            found(range);
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

/// Whether a line says that the map has pages of its own, in memory or swapped out. Relocated ones are,
/// although nobody may write to them any more.
fn has_own_pages(line: &str) -> bool {
    let counted = ["Anonymous:", "Swap:"].iter().find_map(|name| line.strip_prefix(name));
    counted.is_some_and(|rest| rest.trim() != "0 kB")
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
    fn a_map_with_pages_of_its_own_in_memory_or_swapped_out_is_not_untouched() {
        let chosen = |anonymous: u32, swapped: u32| {
            let text = format!(
                "7f0000000000-7f0000002000 r--p 00001000 fe:00 1234 /usr/lib/libc.so.6\n\
                 Size: 8 kB\nAnonymous:            {anonymous} kB\nAnonHugePages:         4 kB\n\
                 Swap:                 {swapped} kB\nSwapPss:               4 kB\nVmFlags: rd mr\n\
                 7f0000002000-7f0000003000 rw-p 00001000 fe:00 1234 /usr/lib/libc.so.6\n\
                 Anonymous:            0 kB\nSwap:                 0 kB\n"
            );
            let mut found = Vec::new();
            untouched(text.lines().map(str::to_owned), Path::new("/x"), |range| {
                found.push((range.start, range.end));
            });
            found
        };
        assert_eq!(chosen(0, 0), [(0x7f00_0000_0000, 0x7f00_0000_2000)]);
        assert_eq!(chosen(40, 0), []);
        assert_eq!(chosen(0, 8), []);
    }

    #[test]
    fn code_runs_on_after_its_pages_were_dropped() {
        let words: Vec<String> = (0..100).map(|at| format!("{at:x}")).collect();
        release_code();
        assert_eq!(words.concat().len(), 16 + 84 * 2);
    }
}
