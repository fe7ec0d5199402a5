"""Benchmarks: the whole job beside its peers, the kernels, the national day. See README.md; nothing here is installed."""
