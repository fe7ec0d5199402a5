"""Fuzz the readers, led by what code an input reaches: ``make fuzz``, or ``make fuzz TARGET=nem12 FUZZ=60``.

Each target runs in a process of its own for some seconds and begins with ``corpus/`` and what earlier runs found under
``build/fuzz``. It ends early at a finding: the input is kept under ``build/fuzz/<target>/found``, and belongs in
``corpus/`` once it is mended. The last line says targets and findings.
"""

import argparse
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_ROOT), str(_HERE), str(_HERE.parent / "pipeline")]
_WORK = _ROOT / "build" / "fuzz"
#: No input may take as long, idle or not; what one may take of the processor is in ``fuzz_contract``.
_HANG_S = 120
_MOST_MB = 3_000
#: A request for more fails at once, instead of taking the machine with it.
_ADDRESSES = 64 << 30
_COUNT = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_CHILD = "--in-this-process"


def main() -> int:
    """Fuzz the targets one after the other; 1 if anything was found."""
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)} (all)")
    parser.add_argument("--seconds", type=int, default=600, help="for each target (600)")
    arguments = parser.parse_args()
    names = arguments.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"there is no target {', '.join(unknown)}")
    findings = sum(_fuzz(name, arguments.seconds) for name in names)
    print(f"{len(names)} targets, {findings} findings")
    return 1 if findings else 0


def _fuzz(name: str, seconds: int) -> int:
    """Fuzz one target; gives the number of findings, 0 or 1."""
    from fuzz_targets import CORPUS, EXAMPLES

    place = _WORK / name
    grown, found = place / "corpus", place / "found"
    for folder in (grown, found):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    begin = [str(folder) for folder in (grown, CORPUS / name, EXAMPLES.get(name)) if folder and folder.is_dir()]
    command = [sys.executable, __file__, _CHILD, name, *begin, f"-max_total_time={seconds}"]
    command += [
        f"-artifact_prefix={found}/",
        f"-timeout={_HANG_S}",
        f"-rss_limit_mb={_MOST_MB}",
        "-print_final_stats=1",
    ]
    started = time.monotonic()
    with (place / "log").open("wb") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    spent = time.monotonic() - started
    said = (place / "log").read_text("utf-8", "replace")
    counted = _COUNT.search(said)
    runs = int(counted[1]) if counted else 0
    new = set(found.iterdir()) - before
    failed = bool(new) or code != 0
    print(f"{name:18} {spent:6.0f} s {runs:10,} runs {runs / spent:8.0f} /s  {int(failed)} findings", flush=True)
    if failed:
        print(*(f"    {path}" for path in new), f"    see {place / 'log'}", sep="\n", flush=True)
    return int(failed)


def _fuzz_here(name: str, options: list[str]) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with atheris.instrument_imports(include=["pipeline", "transforms"]):
        from pipeline.sources.registry import list_sources, load_source

        for source in list_sources():
            load_source(source)
        from fuzz_targets import TARGETS
    target = TARGETS[name]

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        return target.mutate(data, longest, seed, atheris.Mutate)

    atheris.Setup([sys.argv[0], f"-max_len={target.longest}", *options], target.run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == [_CHILD]:
        _fuzz_here(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main())
