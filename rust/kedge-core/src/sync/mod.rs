//! Views and replication: what a node sees, kept equal at both ends.
