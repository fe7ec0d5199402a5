"""Builds a reference snapshot and nothing else: ``python -m benchmarks.snapshot REFERENCE OUT BUCKETS``."""

import sys
from pathlib import Path

from pipeline.reference import build_snapshot

if __name__ == "__main__":
    build_snapshot(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
