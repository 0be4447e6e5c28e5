"""A CSV that names image files and their labels, as competitions give it: `image,label[,more targets][,valid]`."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from winnow.catalog import Catalog
from winnow.collect.archives import IntakeFailed, NoSuchSource
from winnow.images import sha256_of

TRUE = {"1", "true", "yes", "valid", "validation"}
SIDE = "valid"


class BadTable(IntakeFailed):
    """The table lacks a column, has no rows, or names files that aren't there; nothing was written."""


def import_table(table: Path | str, folder: Path | str) -> Catalog:
    """Make a catalog in `folder` from the rows of `table`, whose image paths are relative to the table.

    Files are hard-linked where the disk allows it and copied elsewhere; the originals stay as they are. A `valid`
    column (1, true, yes) gives the split; every other column is a further target. A second call with the same
    table adds only what is new. Raises `NoSuchSource` and `BadTable`, and then `folder` is as it was.
    """
    table, folder = Path(table), Path(folder)
    names, rows = _read(table)
    given_split = SIDE in names
    places = [_place(folder, row, given_split) for row in rows]
    for row, place in zip(rows, places, strict=True):
        _link(table.parent / row["image"], place)
    catalog = Catalog(folder)
    catalog.sync()
    for name in names:
        if name not in ("image", "label", SIDE):
            values = {str(p.relative_to(folder)): row[name] for p, row in zip(places, rows, strict=True)}
            catalog.set_target(name, {path: value for path, value in values.items() if value})
    return catalog


def _read(table: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not table.is_file():
        raise NoSuchSource(
            f"There is no table {table}: give the path of a CSV with the columns image and label."
        )
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or []), list(reader)
    for problem in _problems(table, names, rows):
        raise BadTable(problem)
    return names, rows


def _problems(table: Path, names: list[str], rows: list[dict[str, str]]) -> Iterator[str]:
    for wanted in ("image", "label"):
        if wanted not in names:
            yield f"{table.name} has no column {wanted!r}: its first line must be image,label[,…][,valid]."
    if not rows:
        yield f"{table.name} has no rows: add one line for each image."
    for number, row in enumerate(rows, start=2):
        if not row["label"] or "/" in row["label"] or row["label"].startswith("."):
            yield f"Line {number} of {table.name} has the label {row['label']!r}, which can't name a class folder."
        if not (table.parent / row["image"]).is_file():
            yield f"Line {number} of {table.name} names {row['image']}, which isn't there: correct the path."


def _place(folder: Path, row: dict[str, str], given_split: bool) -> Path:
    """Where the image goes; its folders are kept in its name, so that a/1.jpg and b/1.jpg both have a place."""
    name = "_".join(part for part in Path(row["image"]).parts if part not in ("/", "..", "."))
    side = ("valid" if row[SIDE].strip().lower() in TRUE else "train") if given_split else ""
    return folder / side / row["label"] / name


def _link(source: Path, place: Path) -> None:
    if place.exists() and sha256_of(place) == sha256_of(source):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    try:
        os.link(source, part)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, part)
    part.replace(place)
