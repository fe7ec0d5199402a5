import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from source_cases import POINT, read_file

from pipeline.errors import BadFileError, MeterveilError
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import GROUP, find_source, list_sources, load_source

GUIDE = (Path(__file__).parents[2] / "deploy" / "formats.md").read_text("utf-8")
OPTIONS = ReadOptions(registered_at="2026-04-01T00:00:00Z")
LINES = [f'{{"point": "{POINT}", "hour": "2026-03-30T{hour:02}:00:00Z", "kwh": "{hour}.25"}}' for hour in range(3)]


def guide_block(language):
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
    return block


def forget_sources():
    list_sources.cache_clear()
    load_source.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install packages as an installer does: modules, and a dist-info that names their entry points, on the path."""
    folder = tmp_path / "packages"

    def put(package, module, code, entries):
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code, "utf-8")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", "utf-8")
        listed = "".join(f"{name} = {value}\n" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{listed}", "utf-8")
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, module, raising=False)
        forget_sources()
        return folder

    yield put
    monkeypatch.undo()
    forget_sources()


@pytest.fixture
def guide_package(install):
    entries = tomllib.loads(guide_block("toml"))["project"]["entry-points"][GROUP]
    return install("meter-lines", "meter_lines", guide_block("python"), entries)


def write_lines(folder, lines=LINES):
    path = folder / "hours.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.usefixtures("guide_package")
@pytest.mark.parametrize("options", [OPTIONS, ReadOptions(OPTIONS.registered_at, format="meter-lines")])
def test_the_format_of_the_guide_is_read_once_its_package_is_there(tmp_path, options):
    good, rejected = read_file(write_lines(tmp_path), options)
    assert [(point, start, energy) for point, _, start, _, _, energy, _ in good] == [
        (POINT, (1_774_828_800 + hour * 3_600) * 1_000_000, hour * 1_000_000 + 250_000) for hour in range(3)
    ]
    assert rejected == []


@pytest.mark.usefixtures("guide_package")
def test_the_format_of_the_guide_sets_bad_rows_aside_and_refuses_bad_files(tmp_path):
    lines = [LINES[0], LINES[1].replace("1.25", "x"), LINES[2].replace("2026", "soon")]
    good, rejected = read_file(write_lines(tmp_path, lines), OPTIONS)
    assert len(good) == 1
    assert [(row["row"], row["reason"]) for row in rejected] == [(2, "bad_energy"), (3, "unreadable_row")]
    with pytest.raises(BadFileError, match="no JSON"):
        read_file(write_lines(tmp_path, [LINES[0], '{"point": ']), OPTIONS)


def test_another_process_finds_an_installed_format(tmp_path, guide_package):
    program = f"""
import sys
sys.path.insert(0, {str(guide_package)!r})
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import plan_file
print([split.format for split in plan_file({str(write_lines(tmp_path))!r}, ReadOptions("now", format=None))])
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert "registration time is no ISO 8601" in done.stderr  # the source was found, and asked for its option
    done = subprocess.run(
        [sys.executable, "-c", program.replace('"now"', '"2026-04-01T00:00:00Z"')], check=True, capture_output=True
    )
    assert done.stdout == b"['meter-lines']\n"


def test_without_the_package_the_format_is_unknown(tmp_path):
    with pytest.raises(BadFileError, match="of no known format"):
        read_file(write_lines(tmp_path), OPTIONS)
    with pytest.raises(MeterveilError, match="or install the package that offers it"):
        load_source("meter-lines")


@pytest.mark.parametrize(
    ("code", "value", "problem"),
    [
        ("import no_such_module", "broken:Source", r"package odd: it can't be loaded \(ModuleNotFoundError\); mend"),
        ("1 / 0", "broken:Source", r"it can't be loaded \(ZeroDivisionError\)"),
        ("", "broken:Source", r"it can't be loaded \(AttributeError\)"),
        ("Source = 3", "broken:Source", r"it can't be loaded \(TypeError\)"),
        ("class Source: name = 'odd'", "broken:Source", "it has no recognises, splits, read"),
        (
            "class Source:\n name = 'even'\n recognises = splits = read = print",
            "broken:Source",
            "another name than its entry point",
        ),
    ],
)
def test_a_broken_package_is_named_in_one_line_when_its_turn_comes(tmp_path, install, code, value, problem):
    install("odd", "broken", code, {"odd": value})
    for options in (OPTIONS, ReadOptions(format="odd")):
        with pytest.raises(MeterveilError, match=problem) as raised:
            find_source(str(write_lines(tmp_path)), options)
        assert not isinstance(raised.value, BadFileError)  # --skip-bad-files must not hide it
        assert "\n" not in str(raised.value)
    assert load_source("avro").name == "avro"  # files of other formats are read as ever


def test_one_name_offered_twice_is_refused(install):
    install("first", "one", "", {"odd": "one:Source"})
    install("second", "two", "", {"odd": "two:Source"})
    with pytest.raises(MeterveilError, match=r"format odd: the package (first|second) and the package (first|second)"):
        list_sources()


def test_a_name_of_ours_can_t_be_taken(install):
    install("thief", "thief", "", {"avro": "thief:Source"})
    with pytest.raises(MeterveilError, match="format avro: meterveil and the package thief both offer it"):
        load_source("avro")


def test_files_of_one_format_wait_for_no_other(tmp_path):
    program = """
import sys
from pipeline.sources.base import ReadOptions
from pipeline.sources.registry import find_source
assert find_source(sys.argv[1], ReadOptions()).name == "datahub-csv"
assert not {"datafusion", "pipeline.sources.mapped_csv"} & sys.modules.keys()
"""
    path = tmp_path / "export.csv"
    path.write_text(
        "MeteringPointGSRN;Product Type;Resolution;Unit Type;Reading Type;Start Time;Quantity;Quality\n", "utf-8"
    )
    subprocess.run([sys.executable, "-c", program, path], check=True)
