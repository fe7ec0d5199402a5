import sys
from pathlib import Path

# What runs of the whole job share, and the cluster, stand beside their own.
for folder in ("tests/pipeline", "tests/faults", "deploy/flink"):
    sys.path.append(str(Path(__file__).parents[2] / folder))
