import sys
from pathlib import Path

# What runs of the whole job share stands beside its own tests.
sys.path.append(str(Path(__file__).parents[1] / "pipeline"))
