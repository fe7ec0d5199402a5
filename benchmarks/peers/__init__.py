"""The same job done by others: one module each, run as a process of its own (``python -m benchmarks.peers.NAME``)."""
