"""Kill the real command again and again, and let several run at once: ``make faults``.

The last line says kills, rounds and violations.
"""

import argparse
import random
import secrets
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.append(str(Path(__file__).parents[1] / "pipeline"))

from kills import THEN, TOO_LATE, Stage, kill_once, race_once


def main() -> int:
    """Run the campaign; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many (200)")
    parser.add_argument("--rounds", type=int, default=50, help="how often two or four run at once (50)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the instants (random)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    chance = random.Random(arguments.seed)
    kills, violations, started = 0, 0, time.monotonic()
    with TemporaryDirectory(prefix="meterveil-faults-") as name:
        stage = Stage.build(Path(name))
        while kills < arguments.kills:
            scenario = chance.choice(stage.scenarios)
            when, wrong = kill_once(stage, scenario, chance)
            kills += sum(instant != TOO_LATE for instant in when.split(THEN))
            violations += _tell(f"{kills:4d}  {scenario.name}: {when}", wrong)
        for number in range(arguments.rounds):
            what, wrong = race_once(stage, chance)
            violations += _tell(f"{number + 1:4d}  {what}", wrong)
    print(f"{time.monotonic() - started:.0f} s")
    print(f"{kills} kills, {arguments.rounds} rounds, {violations} violations")
    return 1 if violations else 0


def _tell(what: str, wrong: list[str]) -> int:
    print(what, *(f"      VIOLATION {problem}" for problem in wrong), sep="\n", flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
