"""Tells what each kernel costs per reading or per id, in a table at the end."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

Measure = Callable[..., Any]
_ROUNDS, _WARMUP = 15, 2


@pytest.fixture
def measure(benchmark: Any) -> Measure:
    """Measure ``function(*arguments)``, which works on ``count`` of ``unit``; ``setup`` makes fresh arguments."""

    def run(count: int, unit: str, function: Callable[..., Any], *arguments: Any, setup: Any = None) -> Any:
        warmup = 0 if setup else _WARMUP
        made = benchmark.pedantic(function, arguments, setup=setup, rounds=_ROUNDS, warmup_rounds=warmup)
        if benchmark.stats:
            benchmark.extra_info |= {"unit": unit, "count": count, "ns_each": benchmark.stats.stats.median / count * 1e9}
        return made

    return run


def pytest_terminal_summary(config: pytest.Config) -> None:
    """Print the table: median nanoseconds for one reading or one id, one thread."""
    session = getattr(config, "_benchmarksession", None)
    kernels = sorted(session.benchmarks, key=lambda kernel: kernel.name) if session else []
    if not kernels:
        return
    table = Table(title="median, one thread")
    for name in ("kernel", "ns", "of"):
        table.add_column(name, justify="right" if name == "ns" else "left")
    for kernel in kernels:
        told = kernel.extra_info
        table.add_row(kernel.name.removeprefix("test_"), f"{told['ns_each']:,.1f}", f"one {told['unit']}")
    Console().print(table)
