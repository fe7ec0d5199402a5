"""Kill the real command again and again: ``make faults``. The last line says kills and violations."""

import argparse
import random
import secrets
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).parents[1] / "pipeline"))

from kills import Stage, kill_once


def main() -> int:
    """Run the campaign; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many (200)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the instants (random)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    chance = random.Random(arguments.seed)
    kills, violations, started = 0, 0, time.monotonic()
    with TemporaryDirectory(prefix="meterveil-faults-") as name:
        stage = Stage.build(Path(name))
        while kills < arguments.kills:
            scenario = stage.scenarios[chance.randrange(len(stage.scenarios))]
            when, wrong = kill_once(stage, scenario, chance)
            instants = [instant for instant in when.split(", then ") if instant != "too late"]
            kills += len(instants)
            violations += len(wrong)
            print(
                f"{kills:4d}  {scenario.name}: {when}",
                *(f"      VIOLATION {what}" for what in wrong),
                sep="\n",
                flush=True,
            )
    print(f"{time.monotonic() - started:.0f} s")
    print(f"{kills} kills, {violations} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
