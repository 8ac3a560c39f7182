//! The link: a pure session, and the two ends that drive it over WebSocket and TLS.
