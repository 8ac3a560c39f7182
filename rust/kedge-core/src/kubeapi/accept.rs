// SPDX-License-Identifier: Apache-2.0
//! What representation a client gets, from its `Accept` header.
//!
//! JSON only: protobuf, CBOR and the like fall through to the next range; when nothing is left the
//! answer is 406. Order counts before quality, as in Kubernetes clients, which list what they want.

use crate::{Error, Kind, Result};

/// How objects are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The objects themselves.
    Object,
    /// A `meta.k8s.io/v1` Table for people.
    Table,
    /// Metadata alone.
    Metadata,
}

/// The media type of one range: its essence and parameters without `q`.
pub(super) struct Range<'a> {
    pub(super) essence: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Range<'a> {
    /// The parameter `name`, or the empty string.
    pub(super) fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// Whether a document of `media_type` (which may have parameters) is within this range.
    pub(super) fn covers(&self, media_type: &str) -> bool {
        let offered = range(media_type);
        let same = match self.essence {
            "*/*" => return true,
            "application/*" => offered.essence.starts_with("application/"),
            essence => essence == offered.essence,
        };
        let of = |range: &Range<'_>| ["as", "g", "v"].map(|name| range.parameter(name).to_owned());
        same && of(self) == of(&offered)
    }
}

/// The ranges of an `Accept` header in the client's order, without refused ones (`q=0`).
pub(super) fn ranges(header: &str) -> Vec<Range<'_>> {
    let header = if header.trim().is_empty() { "*/*" } else { header };
    header.split(',').map(range).filter(|found| !refused(found)).take(32).collect()
}

fn refused(range: &Range<'_>) -> bool {
    let quality = range.parameter("q");
    !quality.is_empty() && quality.parse::<f32>().is_ok_and(|quality| quality <= 0.0)
}

fn range(text: &str) -> Range<'_> {
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let parameters = parts
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
        .collect();
    Range { essence, parameters }
}

/// The shape of the answer.
pub(super) fn shape(header: &str) -> Result<Shape> {
    for range in ranges(header) {
        if !matches!(range.essence, "application/json" | "application/*" | "*/*") {
            continue;
        }
        let kind = (range.parameter("as"), range.parameter("g"), range.parameter("v"));
        match kind {
            ("", _, _) => return Ok(Shape::Object),
            ("Table", "meta.k8s.io", "v1") => return Ok(Shape::Table),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1") => {
                return Ok(Shape::Metadata);
            }
            _ => {}
        }
    }
    let wanted = "only the following media types are accepted: application/json";
    Err(Error::new(Kind::Rejected, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_that_is_served_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        for (header, want) in [
            ("", Shape::Object),
            ("*/*", Shape::Object),
            ("application/json", Shape::Object),
            (kubectl, Shape::Table),
            ("application/vnd.kubernetes.protobuf,application/json", Shape::Object),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json", Shape::Object),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                Shape::Metadata,
            ),
        ] {
            assert_eq!(shape(header).unwrap(), want, "{header}");
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        for header in [
            "application/vnd.kubernetes.protobuf",
            "text/html",
            "application/json;q=0",
            "application/json;as=Table;g=x;v=v1",
        ] {
            assert!(shape(header).is_err(), "{header}");
        }
    }

    #[test]
    fn documents_are_matched_by_type_and_kind() {
        let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let header = format!("{aggregated},application/json;q=0.9");
        let found = ranges(&header);
        assert!(found[0].covers(aggregated));
        assert!(!found[0].covers("application/json"));
        assert!(found[1].covers("application/json"));
        assert!(!found[1].covers(aggregated));
    }
}
