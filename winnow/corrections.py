"""What becomes of visitors' photos: those that wait for review, and the two verbs that decide.

A photo waits in the catalog's cache folder, as a row of kind "feedback", and is in no class. The feedback box puts it
there; a notebook or the cleaner decides.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from winnow.catalog import Catalog
from winnow.records import Photo, Row

KIND = "feedback"
REFUSED = "refused in review"
HELD = """SELECT DISTINCT sha256 FROM files WHERE state IN ('live', 'unreadable', 'removed')
    AND sha256 IN (SELECT value FROM json_each(?))"""


def row_path(sha256: str) -> str:
    """Where a visitor's photo waits, relative to the dataset folder."""
    return f".winnow/feedback/{sha256}.jpg"


def waiting(catalog: Catalog) -> list[Row]:
    """The feedback rows that nobody has decided yet; `row.data` is a `Correction` as a dict."""
    rows = catalog.rows(KIND)
    gone = decided(catalog, [sha256_of_row(row) for row in rows])
    return [row for row in rows if row.path not in gone]


def decided(catalog: Catalog, hashes: list[str]) -> set[str]:
    """Row paths of those of these photos that were refused, taken in, or taken in and removed again."""
    if not hashes:
        return set()
    held = catalog._db.execute(HELD, [json.dumps(hashes)])  # `photos()` of 100,000 takes a second
    refused = {rejection.source for rejection in catalog.rejections()}
    return {row_path(sha256) for (sha256,) in held} | (refused & {row_path(h) for h in hashes})


def accept(catalog: Catalog, row: Row, *, label: str | None = None) -> Photo:
    """The photo joins the catalog under `label` (default: the visitor's)."""
    origin = {"engine": KIND, "time": row.data.get("at", ""), "answer": row.data.get("answer")}
    name = f"feedback-{sha256_of_row(row)[:12]}.jpg"
    return catalog.add(catalog.folder / row.path, label or row.data["label"], name=name, origin=origin)


def refuse(catalog: Catalog, row: Row, reason: str = REFUSED) -> None:
    """The photo stays out; the reason is kept, and the row doesn't come back."""
    catalog.reject(row.path, reason, label=row.data.get("label"), origin={"engine": KIND})


def sha256_of_row(row: Row) -> str:
    """The SHA-256 of a waiting photo, which is also its file's name."""
    return str(row.data.get("sha256") or PurePosixPath(row.path).stem)
