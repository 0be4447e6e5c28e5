"""`winnow suspects`: the review queue of any folder as a CSV."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from winnow.clean.folder import LookedAtFolder, open_for_reading
from winnow.clean.suspects import Suspect, Suspects, find_suspects
from winnow.images import BadImage


class CannotWrite(Exception):
    """The CSV can't be written where it was asked for."""


def write_suspects(
    folder: Path | str, out: Path | str, *, progress: Callable[[int, int], None] | None = None
) -> str:
    """Rank every image of `folder`, write the CSV `out`, and return what to tell the user."""
    source = open_for_reading(folder)
    found = _find(source, progress)
    try:
        found.to_csv(out)
    except OSError as error:
        raise CannotWrite(f"{out} can't be written ({error.strerror}): choose another --out.") from error
    doubted = sum(row.score > 0.5 for row in found.only("label"))
    return f"{len(found.only('label'))} labels, {doubted} with a likelier one; {found.estimate()}\nWritten: {out}"


def _find(source, progress) -> Suspects:
    """The queue; of a folder without a catalog the files that can't be read come first, as what they are."""
    try:
        return find_suspects(source, progress=progress)
    except BadImage:
        if not isinstance(source, LookedAtFolder):
            raise
        every = {photo.path: photo for photo in source.photos()}
        source.drop_unreadable()
        found = find_suspects(source, progress=progress)
    bad = [_unreadable(every[path], why) for path, why in source.unreadable.items()]
    return found.joined(bad)


def _unreadable(photo, why: str) -> Suspect:
    return Suspect(photo.path, photo.label, photo.label, 1.0, 0.0, "quality", f"Can't be read: {why}")
