"""What Flink's REST interface says of a job: when its steps worked, and what went through its shuffles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cluster import Cluster

#: Steps of the graph that work on readings, in order; what is fused with one counts for it.
_STEPS = ("PlanFiles", "ReadReadings", "FoldCells", "Commit")
_SETTLED = {"FINISHED", "FAILED", "CANCELED"}


@dataclass(frozen=True, slots=True)
class Job:
    """A job that has ended.

    Attributes:
        state: ``FINISHED``, ``FAILED`` or ``CANCELED``.
        seconds: from its start on the cluster to its end.
        phases: seconds of its parts, one after the other: workers start and files are planned, readings are read,
            cells are folded, all is committed.
        shuffled: bytes that its tasks sent to others, references to frames and rejected readings among them.
        attempts: how many tasks were started, those that were tried again included.
    """

    state: str
    seconds: float
    phases: Mapping[str, float]
    shuffled: int
    attempts: int


def read_job(cluster: Cluster) -> Job:
    """Read what the cluster says of the job that came last."""
    jobs = cluster.ask("/jobs/overview")["jobs"]
    last = max((job for job in jobs if job["state"] in _SETTLED), key=lambda job: job["start-time"])
    job = cluster.ask(f"/jobs/{last['jid']}")
    vertices = job["vertices"]
    begin, end = job["start-time"], job["end-time"]
    ends = {step: max((_end_of(vertex) for vertex in _vertices_of(vertices, step)), default=begin) for step in _STEPS}
    borders = [begin, *(max(begin, ends[step]) for step in _STEPS[:-1]), end]
    names = ("start workers, plan files", "read readings", "fold cells", "commit")
    return Job(
        state=job["state"],
        seconds=(end - begin) / 1000,
        phases={name: (borders[number + 1] - borders[number]) / 1000 for number, name in enumerate(names)},
        shuffled=sum(vertex["metrics"]["write-bytes"] for vertex in vertices),
        attempts=sum(sum(vertex["tasks"].values()) for vertex in vertices),
    )


def _vertices_of(vertices: list[dict[str, Any]], step: str) -> Iterator[dict[str, Any]]:
    return (vertex for vertex in vertices if step in vertex["name"].partition("->")[0])


def _end_of(vertex: Mapping[str, Any]) -> int:
    return int(vertex["start-time"] + vertex["duration"]) if vertex["start-time"] > 0 else 0
