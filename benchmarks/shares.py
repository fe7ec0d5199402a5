"""Where an ingestion's processor time goes: ``python -m benchmarks.shares INGEST_ARGUMENTS``.

Runs ``meterveil ingest`` in this process, as if it had one processor, so that one thing happens at a time, and prints
processor seconds by step as JSON. The steps are those of every engine: what a worker of a cluster does is the same.
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any

from pipeline.cli import main as run_command

#: Step to the functions that do it, where they are called. What a function calls of another step counts for that.
STEPS = {
    "decode": ("pipeline.steps.read_part",),
    "encode for the shuffle": ("pipeline.steps.write_frames",),
    "read from the shuffle": ("pipeline.cells.read_frames",),
    "fold": ("pipeline.cells.fold",),
    "join, derive, write": ("pipeline.steps.rewrite_cell",),
    "commit": ("pipeline.ingest.commit_run",),
}


class Stopwatch:
    """Processor seconds by step; the innermost step that is at work has the time."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running = ["start, plan, reference"]
        self._since = time.process_time()

    def wrap(self, step: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function that counts for a step; one that gives values one by one gives them as a list."""

        def timed(*arguments: Any, **options: Any) -> Any:
            with self._turn(step):
                found = work(*arguments, **options)
                return list(found) if isinstance(found, Iterator) else found

        return timed

    @contextmanager
    def _turn(self, step: str) -> Iterator[None]:
        self.note()
        self._running.append(step)
        try:
            yield
        finally:
            self.note()
            self._running.pop()

    def note(self) -> None:
        """Give the time since the last note to the step that is at work."""
        now = time.process_time()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now


def main() -> None:
    """Run the command line with its steps timed; print the seconds."""
    os.cpu_count = lambda: 1  # what asks for it asks as it begins
    watch = Stopwatch()
    for step, places in STEPS.items():
        for place in places:
            module, _, name = place.rpartition(".")
            owner = import_module(module)
            setattr(owner, name, watch.wrap(step, getattr(owner, name)))
    with redirect_stdout(sys.stderr):
        code = run_command(["ingest", *sys.argv[1:]])
    watch.note()
    if code:
        raise SystemExit(code)
    print(json.dumps(watch.seconds))


if __name__ == "__main__":
    main()
