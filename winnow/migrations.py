"""The journal's schema, one named step each. A step, once released, is never edited: add another."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable


def m001_images_and_files(db: sqlite3.Connection) -> None:
    """What is known of an image (by the hash of its bytes), and which files hold it."""
    db.execute("""CREATE TABLE images (
        sha256 TEXT PRIMARY KEY, width INTEGER, height INTEGER, bytes INTEGER,
        side TEXT CHECK (side IN ('train', 'valid', 'test')),
        "group" TEXT, origin TEXT NOT NULL DEFAULT '{}', at TEXT NOT NULL)""")
    db.execute("""CREATE TABLE files (
        id INTEGER PRIMARY KEY, path TEXT UNIQUE, sha256 TEXT NOT NULL REFERENCES images,
        label TEXT NOT NULL, side TEXT, size INTEGER, mtime_ns INTEGER,
        state TEXT NOT NULL CHECK (state IN ('live', 'missing', 'removed', 'unreadable', 'replaced')),
        reason TEXT NOT NULL DEFAULT '')""")
    db.execute("CREATE INDEX files_sha256 ON files (sha256)")
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)")


def m002_targets_and_extra(db: sqlite3.Connection) -> None:
    """Further targets beside the label, and columns that a source brought."""
    for table in ("targets", "extra"):
        db.execute(f"""CREATE TABLE {table} (
            sha256 TEXT NOT NULL, name TEXT NOT NULL, value TEXT,
            PRIMARY KEY (sha256, name)) WITHOUT ROWID""")


def m003_journal(db: sqlite3.Connection) -> None:
    """Decisions, and the steps each went through on disk. Rows are added, never rewritten."""
    db.execute("""CREATE TABLE decisions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('keep', 'relabel', 'remove', 'split', 'feedback')),
        file INTEGER REFERENCES files, path TEXT NOT NULL, sha256 TEXT NOT NULL,
        before TEXT, after TEXT, "by" TEXT NOT NULL, why TEXT NOT NULL, at TEXT NOT NULL)""")
    db.execute("CREATE INDEX decisions_file ON decisions (file, id)")
    db.execute("""CREATE TABLE steps (
        id INTEGER PRIMARY KEY AUTOINCREMENT, decision INTEGER NOT NULL REFERENCES decisions,
        state TEXT NOT NULL
            CHECK (state IN ('intended', 'done', 'rolled back', 'undo intended', 'undone')),
        source TEXT, target TEXT, made TEXT NOT NULL DEFAULT '[]', at TEXT NOT NULL)""")
    db.execute("CREATE INDEX steps_decision ON steps (decision, id)")
    db.execute("CREATE INDEX steps_source ON steps (source)")
    for table in ("decisions", "steps"):
        for change in ("UPDATE", "DELETE"):
            db.execute(f"""CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table}
                BEGIN SELECT RAISE(ABORT, 'journal rows are never rewritten'); END""")
    db.execute("""CREATE VIEW journal AS
        SELECT d.*, coalesce(s.state, 'rolled back') AS step, s.source, s.target, s.made
        FROM decisions d LEFT JOIN steps s
        ON s.id = (SELECT max(id) FROM steps WHERE decision = d.id)""")


def m004_queue_and_runs(db: sqlite3.Connection) -> None:
    """Rows to review (quality, duplicates, feedback), what intake refused, and training runs."""
    db.execute("""CREATE TABLE queue (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, file INTEGER REFERENCES files,
        path TEXT NOT NULL, reason TEXT NOT NULL, data TEXT NOT NULL, at TEXT NOT NULL)""")
    db.execute("CREATE INDEX queue_kind ON queue (kind, path)")
    db.execute("""CREATE TABLE rejections (
        id INTEGER PRIMARY KEY, source TEXT NOT NULL, label TEXT, reason TEXT NOT NULL,
        origin TEXT NOT NULL, at TEXT NOT NULL)""")
    db.execute("""CREATE TABLE runs (
        id INTEGER PRIMARY KEY, kind TEXT NOT NULL, params TEXT NOT NULL, metrics TEXT NOT NULL,
        at TEXT NOT NULL)""")


STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    m001_images_and_files,
    m002_targets_and_extra,
    m003_journal,
    m004_queue_and_runs,
)


def missing_steps(db: sqlite3.Connection) -> list[Callable[[sqlite3.Connection], None]]:
    """The steps that this database hasn't been through; raises `KeyError` for one from the future."""
    try:
        seen = {row[0] for row in db.execute("SELECT name FROM migrations")}
    except sqlite3.OperationalError:
        return list(STEPS)
    if unknown := seen - {step.__name__ for step in STEPS}:
        raise KeyError(sorted(unknown)[0])
    return [step for step in STEPS if step.__name__ not in seen]


def migrate(db: sqlite3.Connection) -> None:
    """Bring the schema up to date, all steps in the caller's transaction."""
    db.execute("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, at TEXT NOT NULL)")
    for step in missing_steps(db):
        step(db)
        db.execute("INSERT INTO migrations VALUES (?, datetime('now'))", [step.__name__])
