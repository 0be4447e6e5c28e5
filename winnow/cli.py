"""The same verbs from a terminal: `winnow --help`."""

import typer

app = typer.Typer(help="Tell things apart in photos.", no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    """Tell things apart in photos: collect, probe, clean, train and share."""


if __name__ == "__main__":
    app()
