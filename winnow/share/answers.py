"""Answers to whole folders, as a CSV: the file side of `winnow predict`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from winnow.images import find_images
from winnow.share.prediction import ExportError, Prediction, Predictor


class NothingToPredict(ExportError):
    """The paths hold no photos."""


def write_answers(
    predictor: Predictor,
    sources: Sequence[Path | str],  # photos, and folders of photos
    out: Path | str | None = None,  # None: standard output
    *,
    batch_size: int = 32,
    tta: int = 0,
    progress: Callable[[int, int], None] | None = None,  # called with (done, total) after each batch
) -> tuple[int, int]:
    """Answer every photo and write one row each as it is known; returns (photos, photos that could not be read).

    Columns: photo, label, probability, none_of_these, each further target, p_<class> for each class, error. The file
    is complete or, on an error, as it was before.
    """
    files = _files(sources)
    if out is None:
        return _write(csv.writer(sys.stdout), predictor, files, batch_size, tta, progress)
    out, part = Path(out), Path(out).with_name(f".{Path(out).name}.part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            counts = _write(csv.writer(file), predictor, files, batch_size, tta, progress)
        part.replace(out)
        return counts
    except OSError as e:
        raise ExportError(
            f"{out} can't be written ({e.strerror}): choose another place for the answers."
        ) from e
    finally:
        part.unlink(missing_ok=True)


def _files(sources: Sequence[Path | str]) -> list[Path]:
    files: list[Path] = []
    for source in map(Path, sources):
        if not source.exists():
            raise NothingToPredict(f"There is no {source}: give photos, or folders of photos.")
        files += find_images(source) if source.is_dir() else [source]
    if not files:
        raise NothingToPredict(
            "There are no photos in these folders: JPEG, PNG, WebP, HEIC and TIFF are read."
        )
    return files


def _write(
    writer, predictor: Predictor, files: list[Path], batch_size: int, tta: int, progress
) -> tuple[int, int]:
    writer.writerow(_head(predictor))
    done = failed = 0
    for batch in _batches(files, batch_size):
        for file, answer in zip(batch, predictor.predict(batch, batch_size=batch_size, tta=tta), strict=True):
            writer.writerow(_row(file, answer, predictor))
            failed += answer.error is not None
        done += len(batch)
        if progress:
            progress(done, len(files))
    return done, failed


def _batches(files: list[Path], size: int) -> Iterator[list[Path]]:
    rest = iter(files)
    while batch := list(islice(rest, size)):
        yield batch


def _head(predictor: Predictor) -> list[str]:
    classes = [f"p_{label}" for label in predictor.labels]
    return ["photo", "label", "probability", "none_of_these", *predictor.targets, *classes, "error"]


def _row(file: Path, answer: Prediction, predictor: Predictor) -> list:
    if answer.error:
        return [
            file,
            "",
            "",
            "",
            *("" for _ in predictor.targets),
            *("" for _ in predictor.labels),
            answer.error,
        ]
    shares = [f"{answer.probabilities[label]:.6f}" for label in predictor.labels]
    further = [answer.targets[name].label for name in predictor.targets]
    best = f"{answer.probabilities[answer.label]:.6f}"
    return [file, answer.label, best, str(answer.unlike).lower(), *further, *shares, ""]
