"""A store that is killed, slow, cut off or answering 5xx while a run is at work, or a database that ends its sessions.

The run goes by a proxy on loopback, which is where the store's faults are; the S3 server itself is real, and so is killing it.
"""

import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from servers import LOOPBACK, Servers
from small_runs import Fleet, find_wrong

from pipeline.stores import ObjectPath

OUTLIVED, FAILED, TOO_LATE = "outlived", "failed, run again", "too late"
#: How long a fault may last; some are shorter than requests are tried again, some longer.
_LASTS_S = (0.5, 5.0, 60.0)
#: A run, without a fault, takes as long as this or longer.
_RUN_S = 6.0
_SLOW_BYTES, _SLOW_S = 2048, 0.05
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FAULTS = ("killed", "slow", "cut off", "answering 503", "database killed")


class Proxy:
    """Passes connections on to a server, as long as nothing is wrong.

    Attributes:
        port: where it listens.
        fault: what is wrong: empty, ``slow``, ``cut off`` or ``answering 503``.
    """

    def __init__(self, to: int) -> None:
        self.fault = ""
        self._to = to
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((LOOPBACK, self._to))
            except OSError:
                client.close()
                continue
            for source, sink, asks in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass_on, args=(source, sink, asks), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:  # noqa: FBT001
        with suppress(OSError):
            while chunk := source.recv(1 << 16):
                if self.fault == "cut off":
                    break
                if self.fault == "answering 503" and asks:
                    source.sendall(_UNAVAILABLE)
                    break
                while chunk:
                    size = _SLOW_BYTES if self.fault == "slow" else len(chunk)
                    if self.fault == "slow":
                        time.sleep(_SLOW_S)
                    sink.sendall(chunk[:size])
                    chunk = chunk[size:]
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Begun:
    """A lake that holds the first part of a fleet, and can be brought back as it was.

    Args:
        served: both servers.
        fleet: what is run.
        place: of the lake, in the store.
        catalog: of the lake.
    """

    def __init__(self, served: Servers, fleet: Fleet, place: ObjectPath, catalog: str) -> None:
        self.served, self.fleet, self.place = served, fleet, place
        self.name = catalog.rpartition("/")[2]
        self.objects = served.objects / place.name
        done = fleet.run(place, 1, "--catalog", catalog)
        assert done.returncode == 0, done.stderr
        shutil.copytree(self.objects, self._kept)
        served.ask(f'CREATE DATABASE "{self.name}-begun" TEMPLATE "{self.name}"')

    @property
    def _kept(self) -> os.PathLike[str]:
        return self.objects.parent.parent / f"{self.name}-begun"

    def restore(self) -> None:
        """Bring the lake back."""
        shutil.rmtree(self.objects)
        shutil.copytree(self._kept, self.objects)
        self.served.ask(f'DROP DATABASE "{self.name}" WITH (FORCE)')
        self.served.ask(f'CREATE DATABASE "{self.name}" TEMPLATE "{self.name}-begun"')

    def fail_once(self, chance: random.Random) -> tuple[str, str, list[str]]:
        """Take in the second part while something fails.

        Args:
            chance: what fails, when, and for how long.

        Returns:
            What failed and what the run said, in words; what became of it; and what is wrong.
        """
        self.restore()
        kind, delay, lasts = chance.choice(FAULTS), chance.uniform(1.0, _RUN_S), chance.choice(_LASTS_S)
        proxy = Proxy(self.served.s3.port)
        environment = os.environ | {"AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{proxy.port}"}
        command = self.fleet.command(self.place, 2)
        try:
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
            ) as run:
                with suppress(subprocess.TimeoutExpired):
                    run.wait(delay)
                late = run.poll() is not None
                with _failing(self.served, proxy, kind), suppress(subprocess.TimeoutExpired):
                    run.wait(lasts)
                _, said = run.communicate()
        finally:
            proxy.close()
        outcome = TOO_LATE if late else FAILED if run.returncode else OUTLIVED
        wrong = [] if run.returncode in (0, 1) and said.count("\n") == run.returncode else [f"it said {said!r}"]
        wrong += find_wrong(self.place, done=run.returncode == 0)
        if run.returncode:
            again = self.fleet.run(self.place, 2)
            wrong += [again.stderr] if again.returncode else find_wrong(self.place, done=True)
        wrong += self.fleet.compare(self.place)
        said = said.strip().partition("meterveil: ")[2]
        return f"{kind} {delay:.1f} s after the start for {lasts:.1f} s: {outcome} {said}".strip(), outcome, wrong


@contextmanager
def _failing(served: Servers, proxy: Proxy, kind: str) -> Iterator[None]:
    """Let something fail until the block ends."""
    server = {"killed": served.s3, "database killed": served.postgres}.get(kind)
    if server is None:
        proxy.fault = kind
    else:
        server.kill()
    try:
        yield
    finally:
        proxy.fault = ""
        if server is not None:
            server.start()
