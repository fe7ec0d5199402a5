"""The matrix of a policy: every field against everybody who might see it, as rows and as a page."""

from collections.abc import Iterable
from html import escape
from pathlib import Path

from schemas.views import FIELD_CLASSES, VIEWS
from transforms.grants import Access, audiences_of, list_access
from transforms.plan import Plan

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Who sees what</title><style>
:root {{ color-scheme: light dark; --line: #8884; --soft: #8881; }}
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 2rem; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .3rem; }} p {{ max-width: 48rem; margin: .3rem 0 1rem; }}
.wide {{ overflow: auto; max-height: 85vh; border: 1px solid var(--line); border-radius: 6px; }}
table {{ border-collapse: separate; border-spacing: 0; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }}
thead th {{ position: sticky; top: 0; background: Canvas; z-index: 2; }}
tbody th {{ position: sticky; left: 0; background: Canvas; font-weight: 500; white-space: nowrap; }}
thead th:first-child {{ left: 0; z-index: 3; }}
small {{ display: block; opacity: .65; font-weight: 400; }}
.kept {{ background: #d9480f22; }} .pseudonym {{ background: #1971c222; }} .coarse {{ background: #2f9e4422; }}
td:empty::after {{ content: "–"; opacity: .3; }}
.key span {{ padding: .1rem .5rem; border-radius: 4px; margin-right: .5rem; }}
</style></head><body>
<h1>Who sees what</h1>
<p>Every field that the tables can be made of, against every role and recipient. Where there is a dash, the field
does not exist for them.</p>
<p class="key"><span class="kept">as it is</span><span class="pseudonym">pseudonym</span>
<span class="coarse">coarser, or hidden in part</span></p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>
{body}
</tbody></table></div></body></html>
"""


def make_matrix(plan: Plan) -> list[dict[str, str]]:
    """Put every field against every audience: a row each, by class; the forms in which it is seen, or nothing."""
    return [
        {"field": field, "class": field_class}
        | {audience: "; ".join(_forms(rows)) for audience, rows in by_audience.items()}
        for field, field_class, by_audience in _collect(plan)
    ]


def write_matrix_page(plan: Plan, path: Path) -> None:
    """Write the matrix as a page that needs nothing else."""
    heads = [f"<th>{escape(name)}<small>{escape(kind)}</small></th>" for name, kind in audiences_of(plan).items()]
    lines = []
    for field, field_class, by_audience in _collect(plan):
        cells = "".join(_write_cell(rows) for rows in by_audience.values())
        lines.append(f"<tr><th>{escape(field)}<small>{escape(field_class)}</small></th>{cells}</tr>")
    page = _PAGE.format(head=f"<th>field</th>{''.join(heads)}", body="\n".join(lines))
    path.write_text(page, encoding="utf-8")


def _collect(plan: Plan) -> Iterable[tuple[str, str, dict[str, list[Access]]]]:
    """Give every field of the views with its class, the most sensitive first, and who sees it how."""
    fields = {field.name: field.field_class for view in VIEWS.values() for field in view.values()}
    fields |= dict(plan.classes)
    access = list_access(plan)
    for field in sorted(fields, key=lambda name: (FIELD_CLASSES.index(fields[name]), name)):
        seen: dict[str, list[Access]] = {audience: [] for audience in audiences_of(plan)}
        for row in access:
            if row.field == field:
                seen[row.audience].append(row)
        yield field, fields[field], seen


def _forms(rows: Iterable[Access]) -> list[str]:
    return sorted({row.form if row.shown != "pseudonym" else f"{row.form} ({row.domain})" for row in rows})


def _write_cell(rows: list[Access]) -> str:
    if not rows:
        return "<td></td>"
    kinds = {"kept" if row.form == "kept" else "pseudonym" if row.shown == "pseudonym" else "coarse" for row in rows}
    kind = next(name for name in ("kept", "coarse", "pseudonym") if name in kinds)
    where = ", ".join(sorted({row.dataset for row in rows}))
    return f'<td class="{kind}">{escape("; ".join(_forms(rows)))}<small>{escape(where)}</small></td>'
