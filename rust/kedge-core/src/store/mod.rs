//! Objects as JSON bytes in LMDB: one revision, list, watch, indexes, group commit.
