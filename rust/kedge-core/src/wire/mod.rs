//! Frames, envelopes, compression and differences: the bytes of the link, without sockets.
