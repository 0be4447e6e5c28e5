"""The same verbs from a terminal: `winnow --help`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Tell things apart in photos: collect, probe, clean, train and share.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command; an error that Winnow explains is one sentence and exit status 1, no traceback."""
    try:
        app()
    except Exception as error:
        if not type(error).__module__.startswith("winnow."):
            raise
        typer.echo(f"winnow: {error}", err=True)
        sys.exit(1)


@app.command()
def demo(
    serve: Annotated[bool, typer.Option(help="Start the app when the model is exported.")] = True,
) -> None:
    """Run build_dataset.ipynb and train.ipynb on the sample, show what came out, start the app."""
    from winnow.demo import run_demo

    export = run_demo()
    if serve:
        from winnow.share.serving import serve as serve_app

        serve_app(export.parent / "app.ipynb")


@app.command()
def run(
    notebook: Annotated[Path, typer.Argument(help="The notebook to execute.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", help="NAME=VALUE, or NAME VALUE as papermill takes it."),
    ] = None,
    values: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Execute a notebook top to bottom with progress here; the executed copy is kept under runs/."""
    from winnow.notebooks import parse_parameters, run_notebook

    executed = run_notebook(notebook, parse_parameters(_pairs(parameter or [], values or [])))
    typer.echo(f"Executed: {executed}")


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where the dataset goes.")] = Path("data/solar"),
    limit: Annotated[int | None, typer.Option(help="Take this many photos only.")] = None,
) -> None:
    """Write the sample: photos of solar cells with experts' labels (CC BY-NC-SA 4.0)."""
    from winnow.collect import sample
    from winnow.collect.progress import Progress

    catalog = sample.write_sample(folder, limit=limit, progress=Progress("writing photos"))
    typer.echo(f"{len(catalog):,} photos in {folder}. {sample.LICENCE}")


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(help="Where the dataset grows.")],
    classes: Annotated[list[str], typer.Argument(help="What to tell apart, a name each.")],
    count: Annotated[int, typer.Option("-n", help="Photos to have in each class.")] = 100,
    template: Annotated[str, typer.Option(help="The words to search for, {} for the class.")] = "{} photo",
    licence: Annotated[
        str, typer.Option(help="any, open, commercial, modify, commercial+modify, public.")
    ] = "any",
) -> None:
    """Search for photos of each class and download them; run it again to go on, or to have more."""
    from winnow.catalog import Catalog
    from winnow.collect.download import top_up
    from winnow.collect.progress import Progress

    options = {"classes": classes, "template": template, "search": {"licence": licence}}
    typer.echo(str(top_up(Catalog(folder), count, progress=Progress("downloading"), **options)))


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="Where the dataset grows.")],
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, a zip or tar (path or address), a CSV of addresses, or img2dataset's output."
        ),
    ],
    sha256: Annotated[str | None, typer.Option(help="What an archive must have.")] = None,
    label: Annotated[str | None, typer.Option(help="The column of a list that holds the class.")] = None,
) -> None:
    """Take photos in: each becomes a photo or a rejection with its reason."""
    from winnow.catalog import Catalog
    from winnow.collect.progress import Progress
    from winnow.collect.sources import import_any

    options = {name: value for name, value in (("sha256", sha256), ("label", label)) if value}
    typer.echo(str(import_any(Catalog(folder), source, progress=Progress("reading"), **options)))


@app.command()
def card(folder: Annotated[Path, typer.Argument(help="The dataset.")]) -> None:
    """Write DATASET.md and CREDITS.csv: counts, sources, licences, what was rejected."""
    from winnow.catalog import Catalog
    from winnow.collect.card import write_card

    for path in write_card(Catalog(folder, create=False)):
        typer.echo(path)


@app.command()
def suspects(
    folder: Annotated[Path, typer.Argument(help="A folder of class folders (an ImageFolder).")],
    out: Annotated[
        Path, typer.Option(help="The CSV to write: path, label, suggested, score, reason.")
    ] = Path("suspects.csv"),
) -> None:
    """List every image of a folder, the one whose label is likeliest to be wrong first; writes only the CSV."""
    from winnow.clean.report import write_suspects

    typer.echo(write_suspects(folder, out, progress=_show_progress))


def _show_progress(done: int, total: int) -> None:
    typer.echo(f"\rlooked at {done} of {total} images", nl=done == total, err=True)


@app.command()
def feedback(
    folder: Annotated[Path, typer.Argument(help="The dataset.")],
    source: Annotated[Path, typer.Argument(help="The app's feedback folder, or a zip of corrections.")] = (
        Path("feedback")
    ),
) -> None:
    """Queue what visitors of the app or the page corrected; the cleaner shows it, and you decide."""
    from winnow.catalog import Catalog
    from winnow.share.feedback import import_corrections

    new = import_corrections(Catalog(folder, create=False), source)
    typer.echo(f"{new} new: the cleaner of {folder} shows what waits under Visitors' corrections.")


@app.command()
def predict(
    photos: Annotated[
        list[Path],
        typer.Argument(
            help="The export (if not --export), photos, folders, and .txt lists: one photo a line."
        ),
    ],
    export: Annotated[Path, typer.Option(help="The export; its .onnx makes it fast.")] = Path("export.pkl"),
    out: Annotated[Path | None, typer.Option(help="The CSV to write (default: standard output).")] = None,
    batch_size: Annotated[int, typer.Option(help="Photos at a time.")] = 32,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average augmented passes as well; needs fastai, and is slow.")
    ] = False,
    passes: Annotated[int, typer.Option(help="How many passes with --tta.")] = 4,
    ray: Annotated[
        str | None, typer.Option(help="Spread over a Ray cluster: local, auto or host:port.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Ray workers; one a core, unless given.")] = None,
) -> None:
    """Answer photos with an export: one row each; after a crash the same command goes on where it stopped."""
    from functools import partial

    from winnow.share.answers import write_answers
    from winnow.share.prediction import load_predictor

    if photos[0].suffix in (".pkl", ".onnx"):
        export, *photos = photos
    options = {"batch_size": batch_size, "tta": passes if tta else 0}
    answer = None
    if ray:
        from winnow.share.fleet import predict_on_ray

        answer = partial(predict_on_ray, export, address=ray, workers=workers, **options)
    predictor = load_predictor(export, light=False if tta else None)
    progress = _show_progress if out else None
    done, failed = write_answers(predictor, photos, out, answer=answer, progress=progress, **options)
    typer.echo(f"answered {done - failed} photos, {failed} could not be read", err=True)


@app.command()
def serve(
    notebook: Annotated[Path, typer.Argument(help="The app.")] = Path("app.ipynb"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to other machines.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int | None, typer.Option(help="8866, or the next free one.")] = None,
    base_url: Annotated[str, typer.Option(help="Path of the app behind a proxy.")] = "/",
    token: Annotated[
        str | None, typer.Option(help='What visitors need on another host: made if not given, "" for none.')
    ] = None,
    max_visitors: Annotated[int | None, typer.Option(help="At a time; as many as fit the memory.")] = None,
    ready: Annotated[int, typer.Option(help="Kernels kept started for the next visitors.")] = 1,
    memory_mb: Annotated[int, typer.Option(help="Megabytes that one visitor's kernel may hold.")] = 700,
    idle_minutes: Annotated[float, typer.Option(help="A visit ends after so long without use.")] = 15,
    grace_seconds: Annotated[float, typer.Option(help="A visit outlives its lost connection so long.")] = 120,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "WARNING",
) -> None:
    """Serve the app to visitors: a kernel each, ready at once, capped, sealed off from files and each other."""
    from winnow.share import serving

    options = {name: value for name, value in locals().items() if name not in ("serving", "notebook")}
    serving.serve(notebook, **options)


@app.command()
def page(
    export: Annotated[Path, typer.Argument(help="The export; its .onnx lies beside it.")] = Path(
        "export.pkl"
    ),
    out: Annotated[Path, typer.Option(help="The folder to write.")] = Path("site"),
    title: Annotated[
        str, typer.Option(help="Heading, and name on the home screen.")
    ] = "What is on this photo?",
    example: Annotated[list[Path] | None, typer.Option(help="A photo to try; may be given again.")] = None,
    weights: Annotated[
        str, typer.Option(help="float16, or float32: twice the size, no rounding.")
    ] = "float16",
) -> None:
    """Write the app as static files that any host serves: the model runs in the visitor's browser."""
    from winnow.share.page import write_page

    typer.echo(str(write_page(export, out, title=title, examples=example or (), weights=weights)))


@app.command()
def train(
    source: Annotated[
        Path, typer.Argument(help="A folder of class folders, or a CSV: image,label[,…][,valid].")
    ],
    epochs: Annotated[int, typer.Option(help="Of fine-tuning, after the probe.")] = 8,
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 192,
    method: Annotated[str, typer.Option(help="squish, crop, pad or random.")] = "squish",
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    backbone: Annotated[str, typer.Option(help="Any of timm's names.")] = "tf_efficientnet_lite0",
    seed: Annotated[int, typer.Option(help="The same seed gives the same run.")] = 42,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read photos; as the machine suggests, unless given.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where a CSV's images are laid out as class folders.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The export; its .onnx goes beside it.")] = Path("export.pkl"),
    wandb: Annotated[str | None, typer.Option(help="Send the run to this Weights & Biases project.")] = None,
) -> None:
    """Train on a folder or a CSV without a notebook: probe, fine-tune, keep the better, export."""
    options = dict(locals())
    from rich.console import Console

    from winnow.headless import train_dataset

    if table := train_dataset(**options):
        Console().print(table)


@app.command()
def sweep(
    folder: Annotated[Path, typer.Argument(help="The dataset.")],
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="Any of timm's names; may be given again. Lite0, 1 and 2, unless given."),
    ] = None,
    size: Annotated[
        list[int] | None, typer.Option(help="Pixels; may be given again. 128, 160 and 192, unless given.")
    ] = None,
    method: Annotated[list[str] | None, typer.Option(help="squish, crop or pad; may be given again.")] = None,
    best: Annotated[int, typer.Option(help="So many of the best probes are fine-tuned.")] = 3,
    epochs: Annotated[int, typer.Option(help="Of fine-tuning.")] = 3,
    ray: Annotated[
        str | None, typer.Option(help="Spread over a Ray cluster: local, auto or host:port.")
    ] = None,
) -> None:
    """Try backbones and sizes by probe, fine-tune the best; what is finished is not run again."""
    from winnow.catalog import Catalog
    from winnow.learn.backbones import BACKBONES
    from winnow.learn.sweep import make_recipes, sweep_table
    from winnow.learn.sweep import sweep as run_sweep

    catalog = Catalog(folder, create=False)
    catalog.split()
    recipes = make_recipes(backbone or BACKBONES, size or [128, 160, 192], method or ["squish"])
    trials = run_sweep(
        catalog,
        recipes,
        fine_tune_best=best,
        epochs=epochs,
        ray_address=ray,
        report=lambda trial: typer.echo(trial, err=True),
    )
    typer.echo(sweep_table(trials).round(3).to_string(index=False))


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="The dataset.")],
    kind: Annotated[
        str | None, typer.Option(help="Only runs of this kind, such as probe or fine_tune.")
    ] = None,
) -> None:
    """List what was tried on a dataset and what came of it."""
    from winnow.catalog import Catalog
    from winnow.learn.tracking import runs_table

    typer.echo(runs_table(Catalog(folder), kind=kind).to_string(index=False))


@app.command()
def doctor(
    notebook: Annotated[Path, typer.Argument(help="The app.")] = Path("app.ipynb"),
    export: Annotated[Path, typer.Option(help="The export that the app loads.")] = Path("export.pkl"),
) -> None:
    """Look at an app before it is shared and say in plain words what to fix; exit status 1 if anything must be."""
    from winnow.share.doctor import Finding, examine

    def show(finding: Finding) -> None:
        mark = {True: "ok  ", None: "note", False: "FIX "}[finding.ok]
        typer.echo(f"{mark}  {finding.what}: {finding.said}")
        if finding.ok is not True and finding.fix:
            typer.echo(f"      → {finding.fix}")

    findings = examine(notebook, export=export, progress=show)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(1)


def _pairs(options: list[str], values: list[str]) -> list[str]:
    """`-p EPOCHS 12` gives the name as an option and the value as a spare argument: join them in order."""
    spare = iter(values)
    return [option if "=" in option else f"{option}={next(spare, '')}" for option in options]


if __name__ == "__main__":
    main()
