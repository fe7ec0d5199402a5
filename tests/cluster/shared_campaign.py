"""What campaigns against real services share: their options, what is told of each round, and the last line."""

import argparse
import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

#: Plays a round: what was done, what became of the run, and what is wrong.
Play = Callable[[random.Random], tuple[str, str, list[str]]]


def run_campaign(
    description: str | None, counted: Sequence[str], late: str, prepare: Callable[[Path], AbstractContextManager[Play]]
) -> int:
    """Play rounds until enough have counted, print each, and at last how many came to what; 1 if anything is wrong.

    Args:
        description: of the campaign, for ``--help``.
        counted: what may become of a run; such rounds count.
        late: what else may: nothing was done to it in time.
        prepare: makes services and a fleet in a folder, and ends them.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of the instants (random)")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    chance = random.Random(arguments.seed)
    outcomes: Counter[str] = Counter()
    violations, started = 0, time.monotonic()
    with TemporaryDirectory(prefix="meterveil-faults-") as name, prepare(Path(name)) as play:
        while sum(outcomes[known] for known in counted) < arguments.rounds:
            what, outcome, wrong = play(chance)
            outcomes[outcome] += 1
            violations += len(wrong)
            print(
                f"{time.monotonic() - started:5.0f} s  {what}", *(f"      VIOLATION {one}" for one in wrong), sep="\n"
            )
            sys.stdout.flush()
    told = ", ".join(f"{outcomes[known]} {known}" for known in (*counted, late))
    print(f"{arguments.rounds} rounds: {told}; {violations} violations")
    return 1 if violations else 0
