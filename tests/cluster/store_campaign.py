"""Let a store and a database fail under real runs again and again: ``make faults-store``.

The last line says rounds, how many runs outlived it, and violations.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / folder) for folder in ("tests/pipeline", "tests/faults", "deploy/store")]

from servers import BUCKET, run_servers
from shared_campaign import Play, run_campaign
from small_runs import Fleet
from store_faults import FAILED, OUTLIVED, TOO_LATE, Begun

from pipeline.stores import ObjectPath


@contextmanager
def prepare(folder: Path) -> Iterator[Play]:
    """Start the servers, and make a lake there."""
    with run_servers() as served:
        os.environ.update(served.environment)
        fleet = Fleet.make(folder / "fleet")
        fleet.objects[f"s3://{BUCKET}"] = served.objects
        yield Begun(served, fleet, ObjectPath("s3:", BUCKET, "lake"), served.catalog("lake")).fail_once


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run_campaign(__doc__, (OUTLIVED, FAILED), TOO_LATE, prepare))
