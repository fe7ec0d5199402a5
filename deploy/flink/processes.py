"""Processes of sessions, and what they take, as Linux tells it."""

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


def list_members(leaders: Collection[int]) -> list[int]:
    """List the processes whose session is that of one of the leaders, leaders included."""
    running = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in running if _session_of(pid) in leaders]


def cpu_of(pid: int) -> float:
    """Tell the processor seconds of a process and of those of its children that have ended; 0 where it has too."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def memory_of(pid: int) -> int:
    """Tell the resident bytes of a process; 0 where it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _session_of(pid: int) -> int:
    """Tell a process's session, which is the pid of its leader; 0 where it has ended."""
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return 0
