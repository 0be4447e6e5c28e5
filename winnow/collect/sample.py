"""The sample that a newcomer gets: real photos of solar cells with experts' labels, from `elpv-dataset`.

Deitsch et al. 2019, *Automatic classification of defective photovoltaic module cells in electroluminescence
images*, Solar Energy 185 (arXiv 1807.02894).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from winnow.catalog import Catalog

LICENCE = (
    "Photos of solar cells: ELPV dataset, Deitsch et al. 2019, CC BY-NC-SA 4.0: not for commercial use; "
    "what you derive from it stays under the same licence."
)
ORIGIN = {
    "engine": "elpv-dataset",
    "creator": "Sergiu Deitsch and others",
    "licence": "CC BY-NC-SA 4.0",
    "attribution": "Deitsch et al. 2019, Solar Energy 185",
}


class SampleMissing(Exception):
    """The package that carries the sample's photos is an extra, and it is not installed."""


class Cell(NamedTuple):
    """One photo of the sample: where it lies, its class, the experts' defect probability, its cell type."""

    file: Path
    label: str
    probability: float
    type: str


def write_sample(
    folder: Path | str = "data/solar",
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Catalog:
    """Write the solar cells to class folders `functional` and `defective` in `folder`.

    Defective means that the experts' probability of a defect is at least 1/2. Each photo has the second target
    `type` (mono or poly) and keeps the `probability` (0, 1/3, 2/3 or 1) as an extra. `limit` takes a part in
    which classes and types stay in proportion; a larger limit later adds to a smaller one. What an earlier call
    wrote is left alone, so decisions made since are kept. Raises `SampleMissing`.
    """
    catalog = Catalog(folder)
    chosen = spread(read_cells())[:limit]
    new = chosen[_written_before(catalog) :]
    paths = {}
    for count, cell in enumerate(new, start=1):
        origin = {**ORIGIN, "file": cell.file.name}
        paths[catalog.add(cell.file, cell.label, origin=origin, durable=False).path] = cell
        if progress:
            progress(count, len(new))
    if new:
        catalog.set_target("type", {path: cell.type for path, cell in paths.items()})
        catalog.set_extra("probability", {path: cell.probability for path, cell in paths.items()})
        catalog.record_run("sample", {"limit": limit}, {"cells": len(chosen), "licence": LICENCE})
    return catalog


def read_cells() -> list[Cell]:
    """Every cell of the installed sample, in the order of its table."""
    spec = find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise SampleMissing(
            "The sample's photos are not installed: run pip install elpv-dataset, or set SOURCE to your own photos."
        )
    data = Path(spec.submodule_search_locations[0]) / "data"
    rows = (line.split() for line in (data / "labels.csv").read_text().splitlines() if line.strip())
    return [
        Cell(
            data / file, "defective" if float(probability) >= 0.5 else "functional", float(probability), kind
        )
        for file, probability, kind in rows
    ]


def spread(cells: list[Cell], *, seed: int = 42) -> list[Cell]:
    """Order `cells` so that each beginning of the list holds classes and types in proportion."""
    strata: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        strata[cell.label, cell.type].append(cell)
    ranked = []
    for _, stratum in sorted(strata.items()):
        random.Random(seed).shuffle(stratum)
        ranked += [((place + 0.5) / len(stratum), cell) for place, cell in enumerate(stratum)]
    return [cell for _, cell in sorted(ranked)]


def _written_before(catalog: Catalog) -> int:
    """How many cells earlier calls wrote; none, if the class folders have been emptied by hand since."""
    written = [run.metrics["cells"] for run in catalog.runs() if run.kind == "sample"]
    return written[-1] if written and catalog.photos() else 0
