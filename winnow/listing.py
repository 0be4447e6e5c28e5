"""The live photos of a dataset as records, with the columns that people and sources added to them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from winnow.records import NoSuchPhoto, Photo
from winnow.store import Store

PHOTOS = """SELECT f.path, f.sha256, f.label, coalesce(i.side, f.side) AS split, i.width, i.height, i.bytes,
    i."group", i.origin FROM files f JOIN images i USING (sha256) WHERE f.state = 'live'"""


def list_photos(store: Store, *, split: str | None = None, label: str | None = None) -> list[Photo]:
    """The live, readable photos, sorted by path."""
    query, values = PHOTOS, []
    if split is not None:
        query, values = query + " AND coalesce(i.side, f.side) = ?", [*values, split]
    if label is not None:
        query, values = query + " AND f.label = ?", [*values, label]
    targets, extra = _columns(store, "targets"), _columns(store, "extra")
    rows = store.db.execute(query + " ORDER BY f.path", values)
    return [_photo(row, targets.get(row["sha256"], {}), extra.get(row["sha256"], {})) for row in rows]


def find_photo(store: Store, path: str) -> Photo:
    """One photo by its path; raises `NoSuchPhoto`."""
    row = store.db.execute(PHOTOS + " AND f.path = ?", [path]).fetchone()
    if row is None:
        raise _no_such_photo(path)
    sha256 = row["sha256"]
    columns = [_columns(store, table, sha256).get(sha256, {}) for table in ("targets", "extra")]
    return _photo(row, *columns)


def set_column(store: Store, table: str, name: str, values: Mapping[str, str]) -> None:
    """Give photos (`path → value`) column `name` in `table`: "targets", or "extra", whose values are JSON."""
    with store.write(durable=False) as db:
        known = (
            {row["path"]: row["sha256"] for row in db.execute("SELECT path, sha256 FROM files")}
            if len(values) > 50
            else {path: find_photo(store, path).sha256 for path in values}
        )
        if strange := [path for path in values if path not in known]:
            raise _no_such_photo(strange[0])
        db.executemany(
            f"INSERT INTO {table} (sha256, name, value) VALUES (?, ?, ?)"
            " ON CONFLICT (sha256, name) DO UPDATE SET value = excluded.value",
            [(known[path], name, value) for path, value in values.items()],
        )


def target_names(store: Store) -> list[str]:
    """Names of the further targets, sorted."""
    return [row[0] for row in store.db.execute("SELECT DISTINCT name FROM targets ORDER BY name")]


def set_groups(store: Store, groups: Mapping[str, object]) -> None:
    """Give photos (`path → group`) their duplicate group; None takes it away."""
    rows = [(None if group is None else str(group), path) for path, group in groups.items()]
    with store.write() as db:
        db.executemany(
            'UPDATE images SET "group" = ? WHERE sha256 = (SELECT sha256 FROM files WHERE path = ?)', rows
        )


def list_groups(store: Store) -> dict[str, list[str]]:
    """Duplicate group → paths of its live photos."""
    found: dict[str, list[str]] = {}
    for row in store.db.execute(PHOTOS + ' AND i."group" IS NOT NULL ORDER BY f.path'):
        found.setdefault(row["group"], []).append(row["path"])
    return found


def list_conflicts(store: Store) -> list[list[str]]:
    """Photos with the very same bytes in two or more classes."""
    labels: dict[str, dict[str, str]] = {}
    for row in store.db.execute(PHOTOS + " ORDER BY f.path"):
        labels.setdefault(row["sha256"], {})[row["path"]] = row["label"]
    return [list(paths) for paths in labels.values() if len(set(paths.values())) > 1]


def _columns(store: Store, table: str, sha256: str | None = None) -> dict[str, dict]:
    query, values = f"SELECT sha256, name, value FROM {table}", []
    if sha256:
        query, values = query + " WHERE sha256 = ?", [sha256]
    found: dict[str, dict] = {}
    read = json.loads if table == "extra" else str
    for key, name, value in store.db.execute(query, values):
        found.setdefault(key, {})[name] = read(value)
    return found


def _photo(row: sqlite3.Row, targets: dict, extra: dict) -> Photo:
    origin = {} if row["origin"] == "{}" else json.loads(row["origin"])
    fields = ("path", "sha256", "label", "split", "width", "height", "bytes", "group")
    return Photo(**{name: row[name] for name in fields}, origin=origin, targets=targets, extra=extra)


def _no_such_photo(path: str) -> NoSuchPhoto:
    return NoSuchPhoto(f"{path} is no photo of this dataset: look at photos() for what is there.")
