"""Cancels a job on a Flink cluster, by its REST interface: Beam's job service lets it run when asked to cancel it."""

import json
import time
import urllib.request
from typing import Any

#: How long the cluster may take to answer, and the job to end.
_ANSWER_S, _ENDED_S, _POLL_S = 20.0, 60.0, 0.5
_ENDED = frozenset({"FINISHED", "CANCELED", "FAILED"})


def cancel_job(master: str, name: str) -> None:
    """Cancel the jobs of a name, and wait until they have ended.

    Args:
        master: ``host:port`` or URL of the REST interface.
        name: of the job.

    Raises:
        OSError: the cluster does not answer, refuses, or takes too long.
    """
    root = master if "://" in master else f"http://{master}"
    for job in _list_jobs(root, name):
        _ask(f"{root}/jobs/{job}", method="PATCH")
    deadline = time.monotonic() + _ENDED_S
    while _list_jobs(root, name):
        if time.monotonic() > deadline:
            raise TimeoutError("the job has not ended")
        time.sleep(_POLL_S)


def _list_jobs(root: str, name: str) -> list[str]:
    """List the jobs of a name that are at work, by id."""
    jobs = _ask(f"{root}/jobs/overview")["jobs"]
    return [job["jid"] for job in jobs if job["name"] == name and job["state"] not in _ENDED]


def _ask(url: str, method: str = "GET") -> Any:
    request = urllib.request.Request(url, method=method)  # noqa: S310 - the address that the user names
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310 - the same
        return json.load(answer)
