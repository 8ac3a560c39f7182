// SPDX-License-Identifier: Apache-2.0
//! The fields of a protobuf message, read without knowing what they mean.

use prost::encoding::decode_varint;

use super::WireError;

/// One field.
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    /// With its tag.
    pub(crate) whole: &'a [u8],
    /// Of one that has a length.
    pub(crate) inner: Option<&'a [u8]>,
}

/// The fields of a message; what is broken ends them with an error.
pub(crate) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, WireError>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let found = field(rest);
        rest = found.as_ref().map_or(&[], |field| &rest[field.whole.len()..]);
        Some(found)
    })
}

fn field(message: &[u8]) -> Result<Field<'_>, WireError> {
    const TRUNCATED: WireError = WireError::Truncated("field");
    let mut rest = message;
    let mut number = || decode_varint(&mut rest).map_err(|_error| TRUNCATED);
    let tag = number()?;
    let length = match tag & 7 {
        0 => number().map(|_value| 0)?,
        1 => 8,
        2 => usize::try_from(number()?).map_err(|_error| TRUNCATED)?,
        5 => 4,
        _ => return Err(WireError::Malformed("wire type")),
    };
    let (inner, after) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
    let whole = &message[..message.len() - after.len()];
    Ok(Field { number: tag >> 3, whole, inner: (tag & 7 == 2).then_some(inner) })
}
