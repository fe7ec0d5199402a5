"""Let a store and a database fail under real runs again and again: ``make faults-store``.

The last line says rounds, how many runs outlived it, and violations.
"""

import argparse
import os
import random
import secrets
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / folder) for folder in ("tests/pipeline", "tests/faults", "deploy/store")]

from servers import BUCKET, run_servers
from small_runs import Fleet
from store_faults import FAILED, OUTLIVED, TOO_LATE, Begun

from pipeline.stores import ObjectPath


def main() -> int:
    """Run the campaign; 1 if anything was found."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the instants (random)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    chance = random.Random(arguments.seed)
    outcomes: Counter[str] = Counter()
    violations, started = 0, time.monotonic()
    with TemporaryDirectory(prefix="meterveil-faults-") as name, run_servers() as served:
        os.environ.update(served.environment)
        fleet = Fleet.make(Path(name) / "fleet")
        fleet.objects[f"s3://{BUCKET}"] = served.objects
        begun = Begun(served, fleet, ObjectPath("s3:", BUCKET, "lake"), served.catalog("lake"))
        while sum(outcomes[known] for known in (OUTLIVED, FAILED)) < arguments.rounds:
            what, outcome, wrong = begun.fail_once(chance)
            outcomes[outcome] += 1
            violations += len(wrong)
            print(
                f"{time.monotonic() - started:5.0f} s  {what}", *(f"      VIOLATION {one}" for one in wrong), sep="\n"
            )
            sys.stdout.flush()
    told = ", ".join(f"{outcomes[known]} {known}" for known in (OUTLIVED, FAILED, TOO_LATE))
    print(f"{arguments.rounds} rounds: {told}; {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
