// SPDX-License-Identifier: Apache-2.0
//! Lines of a container's log in CRI format (`TIME STREAM TAGS TEXT`), as `kubectl logs` wants them.
//!
//! Format: Kubernetes `staging/src/k8s.io/cri-client/pkg/logs`. A line whose tag is `P` goes on in
//! the next one, so its newline is left out.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Which lines, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selection {
    /// Leave out what is older, in nanoseconds since 1970.
    pub since_ns: Option<i64>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// `stdout` or `stderr`; empty for both.
    pub stream: String,
}

/// Turns log lines into output.
#[derive(Debug)]
pub(super) struct Formatter {
    selection: Selection,
    /// Whether the next piece begins a line of output.
    at_start: bool,
    /// Whether a line young enough was seen; all that follow are.
    is_young: bool,
}

impl Formatter {
    pub(super) fn new(selection: Selection) -> Self {
        let is_young = selection.since_ns.is_none();
        Self { selection, at_start: true, is_young }
    }

    /// Appends what `line` (without its newline) amounts to. A line in no format stays as it is.
    pub(super) fn push(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (Some(time), Some(stream), Some(tags)) = (parts.next(), parts.next(), parts.next())
        else {
            out.extend_from_slice(line);
            out.push(b'\n');
            return;
        };
        let text = parts.next().unwrap_or_default();
        let wanted = &self.selection.stream;
        if !wanted.is_empty() && wanted.as_bytes() != stream {
            return;
        }
        self.is_young = self.is_young || !self.is_old(time);
        if !self.is_young {
            return;
        }
        if self.at_start && self.selection.timestamps {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(text);
        self.at_start = tags != b"P" && !tags.starts_with(b"P:");
        if self.at_start {
            out.push(b'\n');
        }
    }

    fn is_old(&self, time: &[u8]) -> bool {
        let Some(since) = self.selection.since_ns else { return false };
        std::str::from_utf8(time)
            .ok()
            .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
            .is_some_and(|when| when.unix_timestamp_nanos() < i128::from(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 4] = [
        "2026-01-01T00:00:01.000000000Z stdout F one",
        "2026-01-01T00:00:02.000000000Z stderr P tw",
        "2026-01-01T00:00:02.500000000Z stderr F o",
        "2026-01-01T01:00:03.000000000+01:00 stdout F  three ",
    ];

    fn output(selection: Selection) -> String {
        let mut formatter = Formatter::new(selection);
        let mut out = Vec::new();
        for line in LINES {
            formatter.push(line.as_bytes(), &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_lose_their_prefix_and_partial_ones_are_joined() {
        assert_eq!(output(Selection::default()), "one\ntwo\n three \n");
    }

    #[test]
    fn a_time_stands_before_each_whole_line() {
        let selection = Selection { timestamps: true, ..Selection::default() };
        let lines: Vec<String> = output(selection).lines().map(Into::into).collect();
        assert_eq!(lines[1], "2026-01-01T00:00:02.000000000Z two");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn older_lines_and_other_streams_are_left_out() {
        let since_ns = Some(1_767_225_603_000_000_000);
        assert_eq!(output(Selection { since_ns, ..Selection::default() }), " three \n");
        let stream = "stderr".to_owned();
        assert_eq!(output(Selection { stream, ..Selection::default() }), "two\n");
    }

    #[test]
    fn a_line_in_no_format_stays_as_it_is() {
        let mut out = Vec::new();
        Formatter::new(Selection::default()).push(b"what", &mut out);
        assert_eq!(out, b"what\n");
    }
}
