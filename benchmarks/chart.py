"""Draws the results of ``benchmarks.run`` as bars, SVG by hand: ``python -m benchmarks.chart`` draws them again."""

import json
from collections.abc import Mapping
from html import escape
from math import ceil, floor, log10
from typing import Any

from benchmarks.report import RESULTS, take_median

_WIDTH, _LABEL, _FIGURE, _LINE = 760, 190, 70, 30
_TOP, _BOTTOM = 66, 34
_INK, _QUIET, _BAR, _MARKED = "#24292f", "#8c959f", "#afb8c1", "#0969da"


def draw_results(results: Mapping[str, Any]) -> str:
    """Draw the nanoseconds that a reading takes, for everybody who did the job."""
    costs = {
        results["titles"][name]: take_median(runs, "seconds") / runs[0]["readings"] * 1e9
        for name, runs in results["runs"].items()
        if name != "start"
    }
    readings = results["runs"]["meterveil"][0]["readings"]
    title = f"{readings / 1e6:.1f} M readings, duplicates settled, joined, pseudonymised, two datasets written"
    return draw_bars(title, f"ns a reading, log scale, {results['cores']} cores; less is better", costs, "meterveil")


def draw_bars(title: str, unit: str, values: Mapping[str, float], marked: str) -> str:
    """Draw bars, the shortest first, on a logarithmic scale.

    Args:
        title: what was measured.
        unit: of the values, and how to read them.
        values: label to a positive value.
        marked: the label whose bar has a colour.
    """
    low, high = floor(log10(min(values.values()))), ceil(log10(max(values.values())))
    room = _WIDTH - _LABEL - _FIGURE

    def place(value: float) -> float:
        return _LABEL + room * (log10(value) - low) / (high - low)

    height = _TOP + _LINE * len(values) + _BOTTOM
    bottom = height - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="15" font-weight="bold" fill="{_INK}">{escape(title)}</text>',
        f'<text x="16" y="46" fill="{_QUIET}">{escape(unit)}</text>',
    ]
    for power in range(low, high + 1):
        x = place(10**power)
        parts.append(f'<line x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="{_QUIET}">{10**power:,}</text>')
    for line, (label, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        y = _TOP + _LINE * line + 5
        colour = _MARKED if label == marked else _BAR
        length = max(1.0, place(value) - _LABEL)
        middle = f'y="{y + 15}" fill="{_INK}"'
        parts.append(f'<text x="{_LABEL - 10}" text-anchor="end" {middle}>{escape(label)}</text>')
        parts.append(f'<rect x="{_LABEL}" y="{y}" width="{length:.1f}" height="{_LINE - 10}" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{_LABEL + length + 6:.1f}" {middle}>{value:,.0f}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    (RESULTS / "latest.svg").write_text(draw_results(json.loads((RESULTS / "latest.json").read_text())))
