"""Migrating a lake to the format that this version writes, step by step from whichever format it has.

A step can be done again, and a lake says that it has the next format only when its step is done: a migration that dies
is begun again. Data files are never changed by one.
"""

from collections.abc import Callable
from dataclasses import replace

from pipeline.lake import Lake, open_lake, write_memory
from pipeline.lock import commit_lock
from pipeline.settings import FORMAT_VERSION, write_settings


def migrate(lake: Lake) -> tuple[int, int]:
    """Bring a lake to the format of this version, while no run commits.

    Args:
        lake: of this format, or an older one.

    Returns:
        The format that it had, and the one that it has now.

    Raises:
        MeterveilError: another run commits for too long.
    """
    with commit_lock(lake):
        had = open_lake(lake.root).settings.format_version
        for version in range(had, FORMAT_VERSION):
            _STEPS[version](lake)
            write_settings(lake.root, replace(lake.settings, format_version=version + 1))
    return had, FORMAT_VERSION


def _begin_memory(lake: Lake) -> None:
    """Give a lake the files that say what it no longer has; nothing was ever dropped from one without them."""
    write_memory(lake.records("operational"))


#: By the format that a lake has, what gives it the next one.
_STEPS: dict[int, Callable[[Lake], None]] = {1: _begin_memory}
