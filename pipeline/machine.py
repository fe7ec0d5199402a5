"""Which machine this is, and which process: what a lease and a run's context go by."""

import socket
from pathlib import Path

from pipeline.errors import MeterveilError


def tell_boot() -> str:
    """Name this boot of this machine, the same in all of its containers; its host name where there is no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def tell_machine() -> str:
    """Name this boot of this machine, and the process namespace (a container's) in it; empty where that can't be."""
    try:
        return f"{tell_boot()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def tell_start(pid: int) -> str:
    """Tell when a process started, in ticks since boot; empty where it is not there, or has only to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if state in "ZX" else fields[18]


def check_boot(boot: str) -> None:
    """Check that this worker is on the machine whose files alone hold the lake's catalog.

    Args:
        boot: of the machine where the run began (``tell_boot``); empty for a catalog that any machine reaches.

    Raises:
        MeterveilError: it is on another one.
    """
    if boot and boot != tell_boot():
        raise MeterveilError(
            "the lake's catalog is SQLite, which workers on several machines can't share safely",
            where=f"worker on {socket.gethostname()}",
            remedy="run all workers on the machine that the command runs on, or use a lake with a catalog server",
        )
