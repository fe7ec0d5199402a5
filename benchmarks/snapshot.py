"""Builds a reference snapshot and nothing else: ``python -m benchmarks.snapshot REFERENCE OUT BUCKETS``."""

import sys
from pathlib import Path

from pipeline.policy_file import DEFAULT_POLICY, load_policy
from pipeline.reference import build_snapshot
from pipeline.registers import ResolveRules

if __name__ == "__main__":
    rules = ResolveRules(load_policy(DEFAULT_POLICY).resolution)
    build_snapshot(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), rules)
