"""Kill TaskManagers and workers of a real cluster again and again: ``make faults-cluster``.

The last line says rounds, how many recovered, and violations.
"""

import argparse
import random
import secrets
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / folder) for folder in ("tests/pipeline", "tests/faults", "deploy/flink")]

from cluster import end_on_signals, run_cluster
from cluster_kills import FAILED, RECOVERED, TOO_LATE, kill_once
from small_runs import Fleet


def main() -> int:
    """Run the campaign; 1 if anything was found."""
    end_on_signals()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the instants (random)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    chance = random.Random(arguments.seed)
    outcomes: Counter[str] = Counter()
    violations, started = 0, time.monotonic()
    with TemporaryDirectory(prefix="meterveil-faults-") as name, run_cluster() as cluster:
        fleet = Fleet.make(Path(name) / "fleet")
        while sum(outcomes[known] for known in (RECOVERED, FAILED)) < arguments.rounds:
            what, wrong = kill_once(cluster, fleet, Path(name), chance)
            outcomes[what.rpartition(": ")[2]] += 1
            violations += len(wrong)
            print(
                f"{time.monotonic() - started:5.0f} s  {what}", *(f"      VIOLATION {one}" for one in wrong), sep="\n"
            )
            sys.stdout.flush()
    told = ", ".join(f"{outcomes[known]} {known}" for known in (RECOVERED, FAILED, TOO_LATE))
    print(f"{arguments.rounds} rounds: {told}; {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
