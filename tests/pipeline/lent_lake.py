"""A lake that is made once for many tests, which may change it: it is brought back after each. And looks at any lake."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from privacy_support import Retailer

from pipeline.findings import Findings
from pipeline.lake import Lake, open_lake
from pipeline.policy_file import load_policy
from pipeline.verify import verify_lake


def keep_copy(made: Retailer) -> Retailer:
    """Keep a copy of the files of a retailer's lake."""
    shutil.copytree(made.lake, made.folder / "copy")
    return made


@contextmanager
def lend(made: Retailer) -> Iterator[Lake]:
    """Open the lake of a retailer, and bring it back as the copy has it, whatever became of it."""
    yield open_lake(made.lake)
    shutil.rmtree(made.lake)
    shutil.copytree(made.folder / "copy", made.lake)


def verify(lake: Lake) -> Findings:
    return verify_lake(lake, load_policy(lake.stored_policy()))


def assert_clean(lake: Lake) -> None:
    """Check that nothing is wrong with a lake, and nothing left over in it."""
    assert [f"{check.name}: {place} {what}" for check in verify(lake) for place, what, _ in check.places] == []
