"""Every run's parameters, metrics and environment, kept in the catalog, listed, plotted, and sent on when asked."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from winnow.catalog import Catalog, Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LIBRARIES = ("winnow-images", "fastai", "torch", "torchvision", "timm", "onnxruntime", "numpy", "pillow")


class NoWandb(ImportError):
    """Weights & Biases was asked for and is not installed: it is in the extra `scale`."""


class NoRuns(ValueError):
    """The catalog holds no run that could be shown."""


def environment() -> dict[str, str]:
    """What a result may depend on beside its parameters: Python, the system, cores, GPU and library versions."""
    versions = {name: _version(name) for name in LIBRARIES}
    found = {name: version for name, version in versions.items() if version}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "gpu": _gpu_name(),
        **found,
    }


def track(
    catalog: Catalog,
    kind: str,  # "probe", "fine_tune", …
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    *,
    wandb: str | None = None,  # the project's name: the run goes to Weights & Biases as well
) -> int:
    """Record a run with its environment in the catalog, and in W&B when a project is named; returns its number.

    W&B's own `WANDB_MODE=offline` keeps everything on this machine, under `wandb/`. Raises `NoWandb` before
    anything is recorded when it is asked for and not installed.
    """
    library = _import_wandb() if wandb else None
    params = {**params, "environment": environment()}
    number = catalog.record_run(kind, params, dict(metrics))
    if library:
        run = library.init(
            project=wandb, job_type=kind, name=f"{kind}-{number}", config=params, reinit="create_new"
        )
        run.log(dict(metrics))
        run.finish()
    return number


def runs_table(catalog: Catalog, *, kind: str | None = None) -> pd.DataFrame:
    """One row for each run, oldest first: number, kind, time, then its parameters and its numeric metrics."""
    import pandas as pd

    rows = [_row(run) for run in catalog.runs() if kind in (None, run.kind)]
    return pd.DataFrame(rows)


def plot_runs(catalog: Catalog, metric: str = "macro_f1", *, ax: Axes | None = None) -> Axes:
    """A metric over the runs, one line for each kind. Raises `NoRuns` when no run has it."""
    import matplotlib.pyplot as plt

    runs = [run for run in catalog.runs() if isinstance(run.metrics.get(metric), int | float)]
    if not runs:
        raise NoRuns(
            f"No run of {catalog.folder.name} has the metric {metric!r}: train first, or name another."
        )
    ax = ax or plt.subplots(figsize=(7, 3))[1]
    for kind in dict.fromkeys(run.kind for run in runs):
        of_kind = [run for run in runs if run.kind == kind]
        ax.plot([run.id for run in of_kind], [run.metrics[metric] for run in of_kind], marker="o", label=kind)
    ax.set(xlabel="run", ylabel=metric)
    ax.legend(frameon=False)
    return ax


def _row(run: Run) -> dict[str, Any]:
    params = {key: value for key, value in run.params.items() if not isinstance(value, dict | list)}
    metrics = {key: value for key, value in run.metrics.items() if isinstance(value, int | float | str)}
    return {"run": run.id, "kind": run.kind, "at": run.at, **params, **metrics}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _import_wandb():
    try:
        import wandb
    except ImportError as error:
        raise NoWandb("Weights & Biases is not installed: pip install 'winnow-images[scale]'.") from error
    return wandb
