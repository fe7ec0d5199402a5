"""Benchmarks: the whole job beside its peers, the kernels, the national day; see README.md."""
