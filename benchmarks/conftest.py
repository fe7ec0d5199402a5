"""Tells what each kernel costs per reading or per id, in a table at the end."""

from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from rich.markup import escape
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
            times = benchmark.stats.stats
            costs = {"ns_median": times.median / count * 1e9, "ns_least": times.min / count * 1e9}
            benchmark.extra_info |= {"unit": unit, "count": count, **costs}
        return made

    return run


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Leave the machine's name out of what is kept: which processor and which Python it was is enough."""
    machine_info.pop("node", None)


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark, which ends the session where a comparison fails
def pytest_terminal_summary(config: pytest.Config) -> None:
    """Print the table: nanoseconds for one reading or one id, one thread."""
    session = getattr(config, "_benchmarksession", None)
    kernels = sorted(session.benchmarks, key=lambda kernel: kernel.name) if session else []
    if not kernels:
        return
    table = Table("kernel", title="ns on one thread")
    for name in ("median", "least"):
        table.add_column(name, justify="right")
    table.add_column("of one")
    for kernel in kernels:
        told, name = kernel.extra_info, kernel.name.removeprefix("test_")
        table.add_row(escape(name), f"{told['ns_median']:,.1f}", f"{told['ns_least']:,.1f}", told["unit"])
    Console().print(table)
