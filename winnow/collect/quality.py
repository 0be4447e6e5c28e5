"""Photos that a camera or a website spoilt: dark, bright, blurry, oddly shaped, empty. Rows to review."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from winnow.catalog import Catalog
from winnow.images import BadImage, open_image

SIDE = 128  # pixels of the longer side: the measures hardly change, and it is quick
KINDS = {  # cleanvision's name: what a person reads
    "dark": "dark: hardly anything can be seen",
    "light": "bright: washed out",
    "blurry": "blurry: edges are soft",
    "odd_aspect_ratio": "odd shape: much longer than wide",
    "low_information": "hardly any content: a flat or empty picture",
}


def find_quality(
    catalog: Catalog,
    *,
    thresholds: dict[str, float] | None = None,  # cleanvision's, by kind; a score below it is a fault
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Queue a row of kind "quality" for each fault that cleanvision's measures see; returns counts by kind.

    A row's data holds the `kind` and the `score` (0 worst, 1 best). A second call replaces the rows of the first.
    Photos that experts took on purpose like this are no faults: nothing is removed, a person decides.
    """
    photos = catalog.photos()
    measured: list[dict[str, Any]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = [catalog.file(photo.path) for photo in photos]
        for count, measures in enumerate(pool.map(_measure, files), start=1):
            measured.append(measures)
            if progress:
                progress(count, len(photos))
    rows = list(_faults([photo.path for photo in photos], measured, thresholds or {})) if photos else []
    catalog.queue_rows("quality", [(path, KINDS[kind], {"kind": kind, "score": score})
                                   for path, kind, score in rows], replace=True)  # fmt: skip
    return {
        kind: sum(row[1] == kind for row in rows) for kind in KINDS if any(row[1] == kind for row in rows)
    }


def _properties() -> dict[str, Any]:
    """cleanvision's measures; "light" shares those of "dark"."""
    from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager

    return ImagePropertyIssueManager()._get_image_properties()


def _measure(file) -> dict[str, Any]:
    """What cleanvision measures in one photo; nothing for one that can't be opened."""
    try:
        image = open_image(file, max_side=SIDE)
    except BadImage:
        return {}
    measures: dict[str, Any] = {}
    for kind, measure in _properties().items():
        if kind in KINDS and kind != "light":
            measures |= measure.calculate(image)
    return measures


def _faults(paths: list[str], measured: list[dict], thresholds: dict) -> Iterator[tuple[str, str, float]]:
    """(path, kind, score) for each score below its threshold, the worst of each kind first."""
    import pandas as pd
    from cleanvision.issue_managers.image_property_issue_manager import ImagePropertyIssueManager

    defaults = ImagePropertyIssueManager().get_default_params()
    table = pd.DataFrame(measured, index=paths).dropna()
    for kind in KINDS:
        measure, params = _properties()[kind], dict(defaults[kind])
        limit = thresholds.get(kind, params.pop("threshold"))
        scores = measure.get_scores(raw_scores=table[measure.score_columns], issue_type=kind, **params)
        column = scores[f"{kind}_score"]
        for path, score in column[column < limit].sort_values().items():
            yield path, kind, float(score)
