"""What is written down beside the photos: rows to review, what was not taken in, runs and their figures."""

from __future__ import annotations

import json
from collections.abc import Iterable

from winnow.records import Rejection, Row, Run
from winnow.store import Store, now


def queue_rows(
    store: Store, kind: str, rows: Iterable[tuple[str, str, dict]], *, replace: bool = False
) -> None:
    """Queue rows `(path, reason, data)` once each; `replace` takes the earlier rows of this kind away."""
    with store.write(durable=False) as db:
        if replace:
            db.execute("DELETE FROM queue WHERE kind = ?", [kind])
        for path, reason, data in rows:
            text = json.dumps(data)
            db.execute(
                "INSERT INTO queue (kind, file, path, reason, data, at)"
                " SELECT ?, (SELECT id FROM files WHERE path = ?), ?, ?, ?, ? WHERE NOT EXISTS"
                " (SELECT 1 FROM queue WHERE kind = ? AND path = ? AND reason = ? AND data = ?)",
                [kind, path, path, reason, text, now(), kind, path, reason, text],
            )


def queued_rows(store: Store, kind: str | None = None) -> list[Row]:
    """The rows to review, by present path; rows about photos that are gone are left out."""
    rows = store.db.execute(
        """SELECT q.id, q.kind, coalesce(f.path, q.path) AS path, q.reason, q.data, q.at FROM queue q
        LEFT JOIN files f ON f.id = q.file
        WHERE (f.id IS NULL OR f.state IN ('live', 'unreadable')) AND (? IS NULL OR q.kind = ?) ORDER BY q.id""",
        [kind, kind],
    )
    return [Row(r["id"], r["kind"], r["path"], r["reason"], json.loads(r["data"]), r["at"]) for r in rows]


def reject(store: Store, source: str, reason: str, label: str | None, origin: dict | None) -> None:
    """Write down why something was not taken in."""
    with store.write(durable=False) as db:
        db.execute(
            "INSERT INTO rejections (source, label, reason, origin, at) VALUES (?, ?, ?, ?, ?)",
            [str(source), label, reason, json.dumps(origin or {}), now()],
        )


def rejections(store: Store) -> list[Rejection]:
    """What was not taken in, oldest first."""
    rows = store.db.execute("SELECT * FROM rejections ORDER BY id")
    return [Rejection(r["source"], r["label"], r["reason"], r["at"], json.loads(r["origin"])) for r in rows]


def record_run(store: Store, kind: str, params: dict, metrics: dict) -> int:
    """Remember a run and its figures; returns its number."""
    with store.write() as db:
        values = [kind, json.dumps(params, default=str), json.dumps(metrics, default=float), now()]
        return db.execute(
            "INSERT INTO runs (kind, params, metrics, at) VALUES (?, ?, ?, ?)", values
        ).lastrowid


def runs(store: Store) -> list[Run]:
    """Every recorded run, oldest first."""
    rows = store.db.execute("SELECT * FROM runs ORDER BY id")
    return [Run(r["id"], r["kind"], json.loads(r["params"]), json.loads(r["metrics"]), r["at"]) for r in rows]
