"""Ports for servers of this machine's loopback that tests and the demo start."""

import random
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

LOOPBACK = "127.0.0.1"
#: The kernel's setting of which ports it hands out itself; Linux has it here.
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 20_000


def find_ports(count: int) -> list[int]:
    """Find ports that nobody listens on, all at once, so that no two are the same.

    They are below those that the kernel hands out to whoever asks for any: until a server has bound its own, and
    while it is down to be started again, no connection and no other server comes to it by chance.
    """
    end = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32_768
    candidates = random.sample(range(min(_LOWEST, end // 2), end), 50 * count)
    found: list[int] = []
    with ExitStack() as held:
        for port in candidates:
            if len(found) == count:
                break
            one = held.enter_context(socket.socket())
            with suppress(OSError):
                one.bind((LOOPBACK, port))
                found.append(port)
    return found
