//! The Kubernetes API server's HTTP side: reads and watches answered here, writes queued for Python.
