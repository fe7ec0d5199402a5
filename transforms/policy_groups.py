"""What a policy says of groups: how many share what is told of a site, and when a sum over sites may be shown."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from schemas.views import VIEW_KINDS, Field
from transforms.plan import Anonymity, Column, Disclosure, Zone
from transforms.policy_errors import Path, PolicyError, expect
from transforms.policy_use import Names, class_shown

#: Views of sites of a day or a year, of which the reference tells how many share something then.
_COUNTED_VIEWS = ("readings", "daily", "sites")


def compile_anonymity(
    spec: Mapping[str, Any], zone: Zone, columns: Iterable[Column], view: Mapping[str, Field], names: Names, path: Path
) -> Anonymity | None:
    """Compile how many sites must share what a dataset tells of them.

    Raises:
        PolicyError: an analytics dataset tells several things of sites, and nothing says how many share them; or it
            is said of what can't be counted or made coarser.
    """
    by_name = {column.name: column for column in columns}
    fine = [
        name
        for name, column in by_name.items()
        if class_shown(column, names.class_of(view[column.source])) == "quasi_identifier"
    ]
    if "anonymity" not in spec:
        # What a filter asks for is told of every row, as if it were a column.
        asked = spec.get("where", {}).keys() - {by_name[name].source for name in fine}
        told = [*fine, *(name for name in sorted(asked) if names.class_of(view[name]) == "quasi_identifier")]
        if zone == "analytics" and len(told) > 1:
            problem = f"{', '.join(told)} together may single people out"
            raise PolicyError(path, problem, "say how many sites share them: anonymity, with k and columns")
        return None
    path = (*path, "anonymity")
    said = spec["anonymity"]
    if spec["view"] not in _COUNTED_VIEWS:
        remedy = f"use {', '.join(_COUNTED_VIEWS[:-1])} or {_COUNTED_VIEWS[-1]}"
        raise PolicyError(path, f"sites of {spec['view']} are not counted", remedy)
    if any(item != ("contracted", True) for item in spec.get("where", {}).items()):
        raise PolicyError(path, "sites are counted that where leaves out", "leave where out, but for contracted: true")
    for name in said["columns"]:
        expect(name, by_name, "column", (*path, "columns"))
        column = by_name[name]
        if not pa.types.is_string(column.type) or column.required:
            raise PolicyError((*path, "columns"), f"nothing is coarser than {name}", "name text about the site")
    if missing := [name for name in fine if name not in said["columns"]]:
        raise PolicyError((*path, "columns"), f"{', '.join(missing)} tell more of a site", "name them too")
    return Anonymity(said["k"], tuple(said["columns"]))


def compile_disclosure(spec: Mapping[str, Any], path: Path) -> Disclosure | None:
    """Compile when a sum may be shown.

    Raises:
        PolicyError: sums are granted without that, or it is said of a view that has no sums.
    """
    if (VIEW_KINDS[spec["view"]] == "aggregate") != ("disclosure" in spec):
        if "disclosure" in spec:
            raise PolicyError((*path, "disclosure"), f"{spec['view']} has no sums over sites", "leave it out")
        raise PolicyError(path, "sums of few sites tell of each", "say when they are shown: disclosure")
    if "disclosure" not in spec:
        return None
    said = spec["disclosure"]
    if math.isnan(said["dominance"]):
        raise PolicyError((*path, "disclosure"), "dominance is no number", "give a share above 0")
    return Disclosure(said["minimum"], float(said["dominance"]))
