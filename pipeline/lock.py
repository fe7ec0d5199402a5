"""The lock of a lake's committer: one at a time; released when its holder ends, however that comes.

By the kernel, on one machine; by the server that holds the lake's catalogs, on many (``pipeline.records``).
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from pipeline.errors import MeterveilError
from pipeline.lake import Lake
from pipeline.progress import PROGRESS
from pipeline.records import hold

#: How long a commit waits for another one, which may be folding many cells again.
PATIENCE_S = 600.0
_POLL_S = 0.05
_FILE = "commit.lock"


@contextmanager
def commit_lock(lake: Lake, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the lock of a lake's committer. Not to be taken twice: a thread that has it would wait for itself.

    Args:
        lake: the lake.
        patience_s: seconds to wait for another holder.

    Raises:
        MeterveilError: another process, or another run of this one, still holds it.
        OSError: the lock's file can't be opened.
    """
    if lake.settings.catalog:
        with hold(lake.settings.catalog, patience_s, partial(_tell_wait, lake.settings.catalog)):
            yield
        return
    path = lake.records("operational") / _FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _try_lock(descriptor):
            _wait_for(descriptor, str(path), patience_s)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, where: str, patience_s: float) -> None:
    _tell_wait(where)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        time.sleep(_POLL_S)
        if _try_lock(descriptor):
            return
    raise MeterveilError(
        f"another run has been committing for more than {patience_s:.0f} s",
        where=where,
        remedy="wait for it or end it (operational/leases says who is at work), then run this again",
    )


def _tell_wait(where: str) -> None:
    logging.getLogger(__name__).info("%s: waiting for another run's commit", where)
    PROGRESS.advance("waits for another run's commit:", 1)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
