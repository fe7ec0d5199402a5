"""Kill TaskManagers and workers of a real cluster again and again: ``make faults-cluster``.

The last line says rounds, how many recovered, and violations.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / folder) for folder in ("tests/pipeline", "tests/faults", "deploy/flink")]

from cluster import end_on_signals, run_cluster
from cluster_kills import FAILED, RECOVERED, TOO_LATE, kill_once
from shared_campaign import Play, run_campaign
from small_runs import Fleet


@contextmanager
def prepare(folder: Path) -> Iterator[Play]:
    """Start the cluster."""
    with run_cluster() as cluster:
        fleet = Fleet.make(folder / "fleet")

        def play(chance: random.Random) -> tuple[str, str, list[str]]:
            what, wrong = kill_once(cluster, fleet, folder, chance)
            return what, what.rpartition(": ")[2], wrong

        yield play


if __name__ == "__main__":
    end_on_signals()
    sys.exit(run_campaign(__doc__, (RECOVERED, FAILED), TOO_LATE, prepare))
