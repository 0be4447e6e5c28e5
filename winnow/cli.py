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


def _pairs(options: list[str], values: list[str]) -> list[str]:
    """`-p EPOCHS 12` gives the name as an option and the value as a spare argument: join them in order."""
    spare = iter(values)
    return [option if "=" in option else f"{option}={next(spare, '')}" for option in options]


if __name__ == "__main__":
    main()
