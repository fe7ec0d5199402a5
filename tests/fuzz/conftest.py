import sys
from pathlib import Path

# What writes small files of every format stands beside the tests of the sources.
sys.path.append(str(Path(__file__).parents[1] / "pipeline"))
