"""Importing a command's modules in two thirds of the time."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Connectors that Beam imports if they are installed, and does without if they are not. No pipeline here uses them.
_CONNECTORS = ("pymongo", "apache_beam.io.gcp.bigquery")


@contextmanager
def quick_imports() -> Iterator[None]:
    """Import without collecting garbage, of which modules make none, and as if Beam's connectors were not installed.

    Whoever needs a connector afterwards can import it as ever.
    """
    absent = [name for name in _CONNECTORS if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment] # how the import system knows what is not there
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        for name in absent:
            del sys.modules[name]
