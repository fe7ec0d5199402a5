"""Writes the reference of a fleet and nothing else: ``python -m benchmarks.reference FOLDER POINTS START DAYS [all]``.

With ``all`` the registers too, and the truth about them in the folder above.

Whatever is drawn belongs to the number of a point: a larger fleet of the same days begins with the smaller one.
"""

import sys
from datetime import date
from pathlib import Path

from pipeline.fleet.options import FleetOptions
from pipeline.fleet.reference import build_fleet
from pipeline.fleet.register import write_reference
from pipeline.fleet.registers import write_registers
from schemas.registers import REGISTERS

if __name__ == "__main__":
    folder, points, start, days, *feeds = sys.argv[1:]
    options = FleetOptions(
        points=int(points),
        days=int(days),
        start=date.fromisoformat(start),
        hourly_share=0,
        faults=frozenset(),
        feeds=frozenset(REGISTERS if feeds else ()),
    )
    customers = write_reference(build_fleet(options), Path(folder))
    if feeds:
        write_registers(customers, Path(folder).parent)
