"""The feedback box: photos that visitors corrected and agreed to give, until the owner has reviewed them.

A folder with two files a photo, named by the SHA-256 of the JPEG: the photo (no EXIF) and what was said about it.
Many app processes may write at once. As a zip (for hosts that forget) it is the same photos and corrections.json.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from winnow.catalog import Catalog
from winnow.corrections import (  # noqa: F401 - the review's verbs, which the cleaner calls too
    accept,
    decided,
    refuse,
    row_path,
    waiting,
)
from winnow.images import BadImage, open_image, sha256_of
from winnow.share.prediction import Prediction, Predictor

MAX_SIDE = 1024  # pixels kept: enough to learn from
FORMAT = 1
THANKS = "Thank you: the correction was saved."


class BoxFull(ValueError):
    """The box holds as much as its owner allowed; the message is for the visitor."""


class ForeignZip(ValueError):
    """The zip is not one that a feedback box or a Winnow page made."""


@dataclass(frozen=True)
class Correction:
    """One photo that a visitor corrected."""

    sha256: str
    label: str  # what the visitor says
    answer: dict | None  # what the model said: {label, probabilities: [{label, p}], unlike}
    digest: str  # SHA-256 of the export.pkl that answered
    at: str  # ISO time, UTC
    file: str  # the photo's name in the box

    @property
    def reason(self) -> str:
        """The row's sentence in the cleaner."""
        said = self.answer or {}
        model = f"; the model said {said['label']}" if said.get("label") else ""
        return f"A visitor says {self.label}{model}."


class FeedbackBox:
    """A folder of corrections, capped in size: `max_photos` and `max_bytes` of photos."""

    def __init__(
        self, folder: Path | str = "feedback", *, max_photos: int = 2000, max_bytes: int = 500 * 2**20
    ):
        self.folder, self.max_photos, self.max_bytes = Path(folder), max_photos, max_bytes

    def __len__(self) -> int:
        return sum(1 for _ in self.folder.glob("*.json"))

    def add(self, photo: bytes, *, label: str, answer: Prediction | None = None, digest: str = "") -> str:
        """Keep a photo and the label a visitor gave it; returns the sentence that thanks.

        The photo is turned upright, shrunk and written anew, so that nothing of its EXIF remains. The same photo
        again replaces what was said before. Raises `BadImage` or `BoxFull`; then nothing is kept.
        """
        jpeg = _without_metadata(photo)
        said = answer and {
            "label": answer.label,
            "probabilities": [{"label": k, "p": round(p, 5)} for k, p in answer.probabilities.items()],
            "unlike": answer.unlike,
        }
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        sha256 = sha256_of(jpeg)
        self._store(Correction(sha256, label, said, digest, now, f"{sha256}.jpg"), jpeg)
        return THANKS

    def rows(self) -> list[Correction]:
        """All corrections, oldest first; a file that is none is passed over."""
        found = [_read(file) for file in self.folder.glob("*.json")]
        return sorted((c for c in found if c), key=lambda c: (c.at, c.sha256))

    def photo(self, correction: Correction) -> bytes:
        """The JPEG of a correction."""
        return (self.folder / correction.file).read_bytes()

    def zip(self) -> bytes:
        """The whole box as a zip, for `import_zip` elsewhere."""
        rows, buffer = self.rows(), io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            listing = {"format": FORMAT, "corrections": [asdict(row) for row in rows]}
            archive.writestr("corrections.json", json.dumps(listing, indent=1, ensure_ascii=False))
            for row in rows:
                archive.writestr(row.file, self.photo(row))
        return buffer.getvalue()

    def import_zip(self, source: Path | str | bytes) -> int:
        """Take over the corrections of another box or of a page's visitor; returns how many came in.

        A zip may come from a stranger: names are checked, every photo is opened and written anew, the caps hold.
        Raises `ForeignZip`; a photo that is none is passed over.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
                return sum(self._import_one(archive, row) for row in _listing(archive)["corrections"])
        except (
            zipfile.BadZipFile,
            KeyError,
            TypeError,
            AttributeError,
            json.JSONDecodeError,
            UnicodeDecodeError,
        ) as e:
            raise ForeignZip(
                "This zip holds no corrections: choose one that the app or its page made."
            ) from e

    def import_into(self, catalog: Catalog) -> int:
        """Queue every correction in `catalog` as a row of kind "feedback"; returns how many are new.

        The photos go to the catalog's cache folder and into no class: `accept` or `refuse` decides. The box stays
        as it is. A correction that was decided, or whose photo the catalog holds already, is not queued again.
        """
        found = self.rows()
        known = {row.path for row in catalog.rows("feedback")} | decided(catalog, [c.sha256 for c in found])
        fresh = [c for c in found if row_path(c.sha256) not in known]
        rows = []
        for correction in fresh:
            _write(catalog.folder / row_path(correction.sha256), self.photo(correction))
            rows.append((row_path(correction.sha256), correction.reason, asdict(correction)))
        catalog.queue_rows("feedback", rows)
        return len(rows)

    def _store(self, correction: Correction, jpeg: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / correction.file
        if not target.exists():
            self._check_room(len(jpeg))
            _write(target, jpeg)
        text = json.dumps(asdict(correction), ensure_ascii=False, indent=1)
        _write(target.with_suffix(".json"), text.encode())  # last: it makes the photo count

    def _check_room(self, more: int) -> None:
        sizes = [file.stat().st_size for file in self.folder.glob("*.jpg")]
        if len(sizes) >= self.max_photos or sum(sizes) + more > self.max_bytes:
            raise BoxFull("This app's box for corrections is full: the owner has to empty it first.")

    def _import_one(self, archive: zipfile.ZipFile, row: dict) -> bool:
        name, label = f"{row['sha256']}.jpg", str(row["label"])
        if not re.fullmatch(r"[0-9a-f]{64}\.jpg", name) or archive.getinfo(name).file_size > 20 * 2**20:
            return False
        try:
            jpeg = _without_metadata(archive.read(name))
        except BadImage:
            return False
        sha256 = sha256_of(jpeg)
        at, digest = str(row.get("at", ""))[:40], str(row.get("digest", ""))[:64]
        answer = row.get("answer") if isinstance(row.get("answer"), dict) else None
        self._store(Correction(sha256, label[:200], answer, digest, at, f"{sha256}.jpg"), jpeg)
        return True


def import_corrections(catalog: Catalog, source: Path | str) -> int:
    """Queue the corrections of a feedback folder, or of a zip of one, for the cleaner; returns how many are new.

    `source` stays as it is, so the same call may be made again. Raises `ForeignZip` where it holds no corrections.
    """
    source = Path(source)
    if source.is_dir():
        return FeedbackBox(source).import_into(catalog)
    if not source.exists():
        raise ForeignZip(f"There is no {source}: give the app's feedback folder, or a zip of corrections.")
    with tempfile.TemporaryDirectory() as folder:
        box = FeedbackBox(folder)
        box.import_zip(source)
        return box.import_into(catalog)


# ---- after the review (`winnow.corrections`) -----------------------------------------------------


@dataclass(frozen=True)
class Check:
    """How a model answers the photos that visitors once corrected."""

    right: int
    wrong: list[tuple[str, str, str]]  # (path, right label, the model's answer)

    def __str__(self) -> str:
        total = self.right + len(self.wrong)
        return (
            f"{self.right} of {total} past corrections are now right."
            if total
            else "There are no corrections yet."
        )


def check_corrections(catalog: Catalog, predictor: Predictor) -> Check:
    """Ask `predictor` about every accepted correction in `catalog`: after training they should be right."""
    photos = [p for p in catalog.photos() if p.origin.get("engine") == "feedback"]
    answers = predictor.predict([catalog.file(p.path) for p in photos])
    wrong = [(p.path, p.label, a.label) for p, a in zip(photos, answers, strict=True) if a.label != p.label]
    return Check(len(photos) - len(wrong), wrong)


def _without_metadata(photo: bytes) -> bytes:
    buffer = io.BytesIO()
    image = open_image(photo, max_side=MAX_SIDE)
    image.info.clear()
    image.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _listing(archive: zipfile.ZipFile) -> dict:
    if archive.getinfo("corrections.json").file_size > 50 * 2**20:
        raise ForeignZip("This zip's list of corrections is too long to be one.")
    return json.loads(archive.read("corrections.json"))


def _read(file: Path) -> Correction | None:
    try:
        correction = Correction(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return correction if (file.parent / correction.file).is_file() else None


def _write(path: Path, data: bytes) -> None:
    """Written beside and moved into place, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    Path(part).replace(path)
