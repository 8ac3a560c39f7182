// SPDX-License-Identifier: Apache-2.0
//! What messages hold, in protobuf. Unknown fields are skipped, so a version may add some.

use bytes::Bytes;
use prost::{Message as _, Oneof};

use crate::wire::WireError;
use crate::wire::fields::fields;

/// The name of an object on the link.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Message)]
pub struct Key {
    /// API group; empty for core.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Plural resource; reports have a subresource, as `pods/status`.
    #[prost(string, tag = "2")]
    pub resource: String,
    /// Empty when cluster-scoped.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// The name.
    #[prost(string, tag = "4")]
    pub name: String,
}

/// A kind of object.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct Resource {
    /// API group; empty for core.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Plural resource.
    #[prost(string, tag = "2")]
    pub resource: String,
}

/// The node's first message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Must be the name in its certificate.
    #[prost(string, tag = "1")]
    pub node: String,
    /// Which store its versions and report versions belong to.
    #[prost(fixed64, tag = "2")]
    pub store: u64,
    /// Hash of its compression dictionary.
    #[prost(fixed64, tag = "3")]
    pub dictionary: u64,
    /// Digest of the view it holds: the sum of all entries' hashes, 16 bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub digest: Bytes,
    /// How many objects that are.
    #[prost(uint32, tag = "5")]
    pub count: u32,
    /// The kinds it wants; none means all that this version defines.
    #[prost(message, repeated, tag = "6")]
    pub resources: Vec<Resource>,
    /// Its software version, for people.
    #[prost(string, tag = "7")]
    pub agent: String,
    /// How many tunnels it bears at a time; none means that it has no services.
    #[prost(uint32, tag = "8")]
    pub tunnels: u32,
}

/// How the node's copy of its view compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Resume {
    /// Nothing has changed.
    Equal = 0,
    /// It differs; the hub wants the inventory.
    Inventory = 1,
    /// The node holds nothing; everything follows.
    Full = 2,
}

/// The hub's answer to `Hello`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// Names this connection; a later one of the same node ends it.
    #[prost(fixed64, tag = "1")]
    pub session: u64,
    /// Hash of its compression dictionary.
    #[prost(fixed64, tag = "2")]
    pub dictionary: u64,
    /// What follows.
    #[prost(enumeration = "Resume", tag = "3")]
    pub resume: i32,
    /// Its software version, for people.
    #[prost(string, tag = "4")]
    pub hub: String,
    /// Names what the cluster has remembered since it began, or since it was last restored; 0 if it never was.
    #[prost(fixed64, tag = "5")]
    pub history: u64,
}

/// What the node holds of its view, compressed [`Entries`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Inventory {
    /// The entries.
    #[prost(message, optional, tag = "1")]
    pub entries: Option<Packed>,
}

/// One object that a node holds.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// The hash of its bytes.
    #[prost(fixed64, tag = "2")]
    pub version: u64,
}

/// The inside of an inventory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entries {
    /// In any order.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
}

/// Bytes, compressed when that helps.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Packed {
    /// The length once decompressed; 0 when `data` is as it is.
    #[prost(uint32, tag = "1")]
    pub raw: u32,
    /// A zstd frame without its four magic bytes, or the bytes themselves.
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
}

/// One object in a batch.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ItemHead {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub key: Option<Key>,
    /// Gone rather than changed.
    #[prost(bool, tag = "2")]
    pub delete: bool,
    /// The length of its value.
    #[prost(uint32, tag = "3")]
    pub length: u32,
    /// A number that grows with the sender's versions of this object; 0 when there is none.
    #[prost(uint64, tag = "4")]
    pub revision: u64,
}

/// The names in a batch.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ItemHeads {
    /// In the order of their sequence numbers.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<ItemHead>,
}

/// A version that the receiver holds and that values are compressed against.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Base {
    /// Which item's key it has, when the object itself is the base.
    #[prost(uint32, tag = "1")]
    pub item: u32,
    /// The hash of its bytes.
    #[prost(fixed64, tag = "2")]
    pub hash: u64,
    /// The object's key when it is another one.
    #[prost(message, optional, tag = "3")]
    pub key: Option<Key>,
}

/// Changed objects, numbered from `first` on, on the stream the message came by.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    /// The sequence number of the first item.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// Compressed [`ItemHeads`].
    #[prost(message, optional, tag = "2")]
    pub heads: Option<Packed>,
    /// The values one after another, compressed against the dictionary and the bases.
    #[prost(message, optional, tag = "3")]
    pub values: Option<Packed>,
    /// In the order they are put after the dictionary.
    #[prost(message, repeated, tag = "4")]
    pub bases: Vec<Base>,
}

/// Everything up to `upto`, and `also`, is durable at the sender of this message.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ack {
    /// The stream of the batches.
    #[prost(uint32, tag = "1")]
    pub stream: u32,
    /// The last of an unbroken run.
    #[prost(uint64, tag = "2")]
    pub upto: u64,
    /// Later ones.
    #[prost(uint64, repeated, tag = "3")]
    pub also: Vec<u64>,
}

/// The object numbered `seq` is refused for good.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Nack {
    /// The stream of the batch.
    #[prost(uint32, tag = "1")]
    pub stream: u32,
    /// The object.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// For a person.
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// A base was not there: send everything from `first` on again, without bases.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NeedFull {
    /// The stream of the batch.
    #[prost(uint32, tag = "1")]
    pub stream: u32,
    /// The first item to send again.
    #[prost(uint64, tag = "2")]
    pub first: u64,
}

/// The view is complete at the node once everything up to `upto` is.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Synced {
    /// On stream 1.
    #[prost(uint64, tag = "1")]
    pub upto: u64,
}

/// A question of the node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Chosen by the asker.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// As `certificate/renew`.
    #[prost(string, tag = "2")]
    pub method: String,
    /// What the method says.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
}

/// The answer to a request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// Of the request.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// As in HTTP.
    #[prost(uint32, tag = "2")]
    pub status: u32,
    /// What the method says; a message for a person when the status is no success.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
}

/// Why the hub ends the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum GoawayCode {
    /// It stops or is overloaded; come back after the hint.
    Unavailable = 0,
    /// The same node connected anew.
    Replaced = 1,
    /// The node broke the protocol.
    Protocol = 2,
    /// The node may not connect.
    Forbidden = 3,
}

/// The last message of a link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Goaway {
    /// Why.
    #[prost(enumeration = "GoawayCode", tag = "1")]
    pub code: i32,
    /// For a person.
    #[prost(string, tag = "2")]
    pub reason: String,
    /// Wait at least this long before connecting again.
    #[prost(uint32, tag = "3")]
    pub retry_after_ms: u32,
}

/// What happens to a tunnel.
#[derive(Clone, PartialEq, Oneof)]
pub enum Passage {
    /// Hub: a new one to the named service of the node.
    #[prost(string, tag = "2")]
    Open(String),
    /// The next bytes.
    #[prost(bytes = "bytes", tag = "3")]
    Data(Bytes),
    /// The other end may send this many more bytes.
    #[prost(uint32, tag = "4")]
    Credit(u32),
    /// The sender sends no more bytes; the other direction goes on.
    #[prost(bool, tag = "5")]
    End(bool),
    /// Both directions are over, for this reason.
    #[prost(string, tag = "6")]
    Reset(String),
}

/// A piece of a connection that passes through the link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tunnel {
    /// Chosen by the hub; never used again on the same link.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// What happens to it.
    #[prost(oneof = "Passage", tags = "2, 3, 4, 5, 6")]
    pub passage: Option<Passage>,
}

/// What a message is.
#[derive(Clone, PartialEq, Oneof)]
#[allow(missing_docs, reason = "each names its type, which is documented")]
pub enum Body {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    Welcome(Welcome),
    #[prost(message, tag = "3")]
    Inventory(Inventory),
    #[prost(message, tag = "4")]
    Batch(Batch),
    #[prost(message, tag = "5")]
    Ack(Ack),
    #[prost(message, tag = "6")]
    Nack(Nack),
    #[prost(message, tag = "7")]
    NeedFull(NeedFull),
    #[prost(message, tag = "8")]
    Synced(Synced),
    #[prost(message, tag = "9")]
    Request(Request),
    #[prost(message, tag = "10")]
    Response(Response),
    #[prost(message, tag = "11")]
    Goaway(Goaway),
    #[prost(message, tag = "12")]
    Tunnel(Tunnel),
}

/// One message of the link.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Envelope {
    /// Exactly one; none is a message from a later version, which is skipped.
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12")]
    pub body: Option<Body>,
}

/// Writes a message.
pub fn encode(body: Body) -> Bytes {
    Envelope { body: Some(body) }.encode_to_vec().into()
}

/// Reads a message; `None` when it is one that this version does not know.
///
/// The slices of `bytes` fields share its memory.
pub fn decode(message: Bytes) -> Result<Option<Body>, WireError> {
    guard(&message)?;
    // prost's own text may quote bytes of the peer, so it goes no further.
    Envelope::decode(message)
        .map(|envelope| envelope.body)
        .map_err(|_error| WireError::Malformed("envelope"))
}

/// Reads a list of small messages, at most `limit` of them.
pub fn decode_list<M: prost::Message + Default>(
    bytes: &[u8],
    limit: usize,
    what: &'static str,
) -> Result<M, WireError> {
    bounded(bytes, limit).try_for_each(|field| field.map(drop))?;
    M::decode(bytes).map_err(|_error| WireError::Malformed(what))
}

const MAX_FIELDS: usize = 1024;

/// A few bytes of repeated fields can make many times their memory: counts them first.
fn guard(message: &[u8]) -> Result<(), WireError> {
    bounded(message, 16)
        .try_for_each(|body| bounded(body?, MAX_FIELDS).try_for_each(|field| field.map(drop)))
}

/// The contents of the top-level fields (empty for scalars), at most `limit` of them.
fn bounded(bytes: &[u8], limit: usize) -> impl Iterator<Item = Result<&[u8], WireError>> {
    fields(bytes).enumerate().map(move |(at, field)| {
        let inner = field?.inner.unwrap_or_default();
        if at < limit { Ok(inner) } else { Err(WireError::Malformed("too many fields")) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Body> {
        let key = Key { resource: "pods".into(), name: "web-0".into(), ..Key::default() };
        let packed = Packed { raw: 9, data: Bytes::from_static(b"zstd") };
        let base = Base { item: 0, hash: 7, key: Some(key) };
        vec![
            Body::Hello(Hello { node: "edge-1".into(), count: 3, ..Hello::default() }),
            Body::Welcome(Welcome { session: 5, resume: 2, ..Welcome::default() }),
            Body::Inventory(Inventory { entries: Some(packed.clone()) }),
            Body::Batch(Batch {
                first: 300,
                heads: Some(packed.clone()),
                values: Some(packed),
                bases: vec![base],
            }),
            Body::Ack(Ack { stream: 1, upto: 9, also: vec![11, 12] }),
            Body::Nack(Nack { stream: 1, seq: 9, reason: "no".into() }),
            Body::NeedFull(NeedFull { stream: 2, first: 8 }),
            Body::Synced(Synced { upto: 2 }),
            Body::Request(Request { id: 1, method: "m".into(), body: Bytes::from_static(b"b") }),
            Body::Response(Response { id: 1, status: 200, body: Bytes::new() }),
            Body::Goaway(Goaway { code: 1, reason: "r".into(), retry_after_ms: 5 }),
        ]
    }

    #[test]
    fn every_message_survives_a_round_trip() {
        for body in samples() {
            assert_eq!(decode(encode(body.clone())), Ok(Some(body)));
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_refused_or_another_message_but_never_a_panic() {
        for body in samples() {
            let bytes = encode(body.clone());
            for end in 1..bytes.len() {
                assert!(decode(bytes.slice(..end)).is_err(), "{body:?} cut at {end}");
            }
        }
    }

    #[test]
    fn a_message_with_any_byte_changed_is_never_a_panic() {
        for body in samples() {
            let bytes = encode(body);
            for at in 0..bytes.len() {
                for flip in [1_u8, 0x80, 0xff] {
                    let mut changed = bytes.to_vec();
                    changed[at] ^= flip;
                    let _ = decode(changed.into());
                }
            }
        }
    }

    #[test]
    fn a_message_of_a_later_version_is_skipped() {
        assert_eq!(
            decode(Bytes::from_static(&[0x9a, 0x06, 0x01, 0x08])).unwrap_err(),
            WireError::Truncated("field")
        );
        assert_eq!(decode(Bytes::from_static(&[0x9a, 0x06, 0x02, 0x08, 0x01])), Ok(None));
    }

    #[test]
    fn many_tiny_fields_are_refused_before_they_become_objects() {
        let mut batch = Vec::new();
        (0..=MAX_FIELDS).for_each(|_| batch.extend_from_slice(&[0x22, 0x00]));
        let mut message = vec![0x22];
        prost::encoding::encode_varint(batch.len() as u64, &mut message);
        message.extend_from_slice(&batch);
        assert_eq!(decode(message.into()), Err(WireError::Malformed("too many fields")));
        let heads = [0x0a, 0x00].repeat(11);
        let refused = decode_list::<ItemHeads>(&heads, 10, "heads");
        assert_eq!(refused, Err(WireError::Malformed("too many fields")));
    }
}
