"""`make demo`: both notebooks on the embedded sample, one table, then the app."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from winnow.catalog import Catalog, Run
from winnow.notebooks import run_notebook

NOTEBOOKS = ("build_dataset.ipynb", "train.ipynb")


class NotACheckout(Exception):
    """The demo runs the notebooks of a clone of Winnow, and they are not in this folder."""


def run_demo(folder: Path | str = ".", *, console: Console | None = None) -> Path:
    """Run the notebooks in `folder` on the sample, print what came out, return the path of `export.pkl`."""
    folder, console = Path(folder), console or Console()
    if missing := [name for name in NOTEBOOKS if not (folder / name).exists()]:
        raise NotACheckout(f"{missing[0]} is not in {folder.resolve()}: run the demo in a clone of Winnow.")
    began = time.monotonic()
    for name in NOTEBOOKS:
        run_notebook(folder / name, runs=folder / "runs", console=console)
    catalog = Catalog(folder / "data" / "solar")
    console.print(summary_table(catalog, seconds=time.monotonic() - began))
    return folder / "export.pkl"


def summary_table(catalog: Catalog, *, seconds: float | None = None) -> Table:
    """One table of what the latest runs of a catalog found: counts, scores on the frozen split, seconds."""
    last = {run.kind: run for run in catalog.runs()}
    table = Table(title=f"Winnow on {catalog.folder.name}", title_justify="left")
    for column, justify in (("", "left"), ("", "left"), ("seconds", "right")):
        table.add_column(column, justify=justify)
    for row in (*_dataset_rows(last.get("build")), *_score_rows(last), *_review_rows(last)):
        table.add_row(*row)
    if seconds is not None:
        table.add_section()
        table.add_row("in all", "both notebooks, their kernels' start included", f"{seconds:.0f}")
    return table


def _seconds(run: Run | None) -> str:
    value = run.metrics.get("seconds") if run else None
    return f"{value:.1f}" if value is not None else ""


def _dataset_rows(build: Run | None) -> list[tuple[str, str, str]]:
    if build is None:
        return []
    classes = build.metrics["classes"]
    named = ", ".join(f"{name} {count}" for name, count in classes.items())
    rejected = build.metrics.get("rejected") or {}
    why = ", ".join(f"{count} {reason}" for reason, count in rejected.items()) or "none"
    return [
        ("images", str(build.metrics["images"]), _seconds(build)),
        (f"{len(classes)} classes", named, ""),
        ("rejected", why, ""),
    ]


def _score_rows(last: dict[str, Run]) -> list[tuple[str, str, str]]:
    labels = {"majority": "majority baseline", "probe": "probe", "fine_tune": "fine-tuned"}
    return [
        (label, _scores(last[kind].metrics), _seconds(last[kind]))
        for kind, label in labels.items()
        if kind in last
    ]


def _scores(metrics: dict[str, Any]) -> str:
    kept = metrics.get("kept")
    note = f"  (kept: {kept})" if kept else ""
    return f"accuracy {metrics['accuracy']:.3f}   macro-F1 {metrics['macro_f1']:.3f}{note}"


def _review_rows(last: dict[str, Run]) -> list[tuple[str, str, str]]:
    rows = []
    if run := last.get("suspects"):
        rows.append(("suspects to review", str(run.metrics["suspects"]), _seconds(run)))
    if run := last.get("export"):
        rows.append(("export", run.metrics.get("path", "export.pkl"), _seconds(run)))
    return rows
