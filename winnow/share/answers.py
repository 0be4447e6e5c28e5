"""Answers to whole folders, as a CSV: the file side of `winnow predict`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from winnow.share.growing import GrowingTable
from winnow.share.listing import Listing, NothingToPredict
from winnow.share.prediction import ExportError, Prediction, Predictor

__all__ = ["NothingToPredict", "write_answers"]

AHEAD = 8  # batches given to the predictor at once, so that it reads one while it answers another
Answered = Generator[tuple[Path, Prediction], None, None]


def write_answers(
    predictor: Predictor,
    sources: Sequence[Path | str],  # photos, folders of photos, and .txt lists of photos
    out: Path | str | None = None,  # None: standard output
    *,
    batch_size: int = 32,
    tta: int = 0,
    answer: Callable[[Iterable[Path]], Answered]
    | None = None,  # who answers, in order; None: `predictor`, here
    progress: Callable[[int, int], None] | None = None,  # called with (done, total) as answers come
) -> tuple[int, int]:
    """Answer every photo and write one row each as it is known; returns (photos, photos that could not be read).

    Columns: photo, label, probability, none_of_these, each further target, p_<class> for each class, error. `out` is
    complete or as it was before; after a crash or `kill -9` the next call with the same export and photos goes on
    behind the last row. Memory doesn't grow with the number of photos.
    """
    listing = Listing(sources)
    answer = answer or (lambda files: _answer_here(predictor, files, batch_size, tta))
    if out is None:
        writer = csv.writer(sys.stdout)
        writer.writerow(_head(predictor))
        return _write(writer, predictor, answer(listing), (0, 0), len(listing), progress)
    table = GrowingTable(Path(out), _head(predictor), {"digest": predictor.digest, "tta": tta})
    try:
        done, failed, rest = table.take_up(iter(listing))
        with (
            table.part.open("a", newline="", encoding="utf-8", buffering=1) as file,
            closing(answer(rest)) as rows,
        ):
            counts = _write(csv.writer(file), predictor, rows, (done, failed), len(listing), progress)
        table.finish()
        return counts
    except OSError as e:
        raise ExportError(
            f"{out} can't be written ({e.strerror}): choose another place for the answers."
        ) from e


def _write(writer, predictor: Predictor, answers: Answered, counts: tuple[int, int], total: int, progress):
    done, failed = counts
    for file, answer in answers:
        writer.writerow(_row(file, answer, predictor))
        done, failed = done + 1, failed + (answer.error is not None)
        if progress and (done % 100 == 0 or done == total):
            progress(done, total)
    return done, failed


def _answer_here(predictor: Predictor, files: Iterable[Path], batch_size: int, tta: int) -> Answered:
    rest = iter(files)
    while some := list(islice(rest, AHEAD * batch_size)):
        yield from zip(some, predictor.predict(some, batch_size=batch_size, tta=tta), strict=True)


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
