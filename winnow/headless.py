"""Training without a notebook: a folder or a CSV in, an export and one table out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from winnow.catalog import Catalog
from winnow.demo import summary_table


class NoDataset(Exception):
    """The source is neither a folder of class folders nor a CSV file."""


def train_dataset(
    source: Path | str,
    *,
    out: Path | str = "export.pkl",
    data: Path | str | None = None,  # where a CSV's catalog is made; None: beside it, under its name
    epochs: int = 8,
    wandb: str | None = None,  # a project's name: the run goes to Weights & Biases too
    **training: Any,  # size, method, batch_size, backbone, seed, workers … as `winnow.learn.training.train` takes them
) -> Table | None:
    """Split what has no side, probe, fine-tune, keep the better, export; returns the table of `winnow demo`.

    Under `accelerate launch` the processes train together, and only the first exports; the others return None.
    Raises `NoDataset`, and the errors of the parts, before `out` is touched.
    """
    from winnow.learn.several import is_main, main_first
    from winnow.learn.tracking import track
    from winnow.learn.training import train
    from winnow.share.export import export_learner

    with main_first():
        catalog = open_dataset(source, data)
        catalog.split()
    learn = train(catalog, epochs=epochs, **training)
    if not is_main():
        return None
    export = export_learner(learn, out)
    scores = learn.outcome.scores
    metrics = {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1, "parity": export.parity}
    track(catalog, "train", {"source": str(source), "epochs": epochs, **learn.recipe}, metrics, wandb=wandb)
    return summary_table(catalog)


def open_dataset(source: Path | str, data: Path | str | None = None) -> Catalog:
    """The catalog of a folder, or of a CSV's images."""
    from winnow.collect.tables import import_table

    source = Path(source)
    if source.is_dir():
        return Catalog(source)
    if source.suffix.lower() == ".csv":
        return import_table(source, data or source.with_suffix(""))
    raise NoDataset(
        f"{source} is neither a folder of class folders nor a CSV of images: give one of the two."
    )
