"""A dataset's papers: `DATASET.md` says what is in it and where it comes from, `CREDITS.csv` names every maker."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from winnow.catalog import Catalog, Photo
from winnow.collect.report import rejection_counts

CREDITS = (
    "path",
    "label",
    "sha256",
    "url",
    "page",
    "title",
    "creator",
    "licence",
    "licence_url",
    "attribution",
    "engine",
    "also_at",
)
MAKER = ("url", "page", "title", "creator", "licence", "licence_url", "attribution", "engine")
UNKNOWN = "not known"


def write_card(catalog: Catalog, *, title: str = "", description: str = "") -> tuple[Path, Path]:
    """Write `DATASET.md` and `CREDITS.csv` into the dataset's folder and return their paths.

    Both are made afresh from the catalog each time and appear whole or not at all. A photo that was found at several
    addresses is credited to the first that names a licence; the others stand under `also_at`.
    """
    photos = _with_other_places(catalog)
    card, credits = catalog.folder / "DATASET.md", catalog.folder / "CREDITS.csv"
    _write(card, _card(catalog, photos, title or catalog.folder.name, description))
    _write(credits, _credits(photos))
    return card, credits


def _with_other_places(catalog: Catalog) -> list[Photo]:
    """The photos; where the same picture was offered elsewhere too, `origin` has the best credit and `also_at`."""
    others = defaultdict(list)
    for rejection in catalog.rejections():
        if same := rejection.origin.get("same_as"):
            others[same].append(rejection.origin)
    photos = []
    for photo in catalog.photos():
        if twins := others.get(photo.origin.get("original_sha256", photo.sha256)):
            places = [photo.origin, *twins]
            credit = next((place for place in places if _is_licensed(place)), photo.origin)
            also = [place.get("page") or place.get("url", "") for place in places if place is not credit]
            maker = {name: credit.get(name, "") for name in MAKER}
            also_at = "; ".join(dict.fromkeys(filter(None, also)))
            photo = replace(photo, origin={**photo.origin, **maker, "also_at": also_at})
        photos.append(photo)
    return photos


def _is_licensed(origin: dict) -> bool:
    licence = origin.get("licence") or UNKNOWN
    return licence != UNKNOWN and not licence.startswith("filtered")


def _card(catalog: Catalog, photos: list[Photo], title: str, description: str) -> str:
    parts = [f"# {title}", description, f"{len(photos):,} photos in {len(catalog.classes)} classes."]
    parts += ["## Classes", _classes(catalog, photos)]
    parts += ["## Sources", _table(("source", "photos"), _count(photos, _source))]
    if queries := Counter(photo.origin["query"] for photo in photos if photo.origin.get("query")):
        parts += ["Searched for:", _table(("words", "photos"), queries.most_common())]
    parts += ["## Licences", _table(("licence", "photos"), _count(photos, _licence)), _advice(photos)]
    parts += ["## Not taken in", _rejected(catalog)]
    parts += ["## Checks", _checks(catalog, photos)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _classes(catalog: Catalog, photos: list[Photo]) -> str:
    sides = [
        side for side in ("train", "valid", "test", None) if any(photo.split == side for photo in photos)
    ]
    counts = Counter((photo.label, photo.split) for photo in photos)
    rows = [
        (name, *(counts[name, side] for side in sides), sum(counts[name, side] for side in sides))
        for name in catalog.classes
    ]
    return _table(("class", *(side or "no side" for side in sides), "all"), rows)


def _source(photo: Photo) -> str:
    origin = photo.origin
    site = urlsplit(origin.get("page") or origin.get("url") or "").netloc.rpartition("@")[2]
    if origin.get("engine") and site:
        return f"{origin['engine']}: {site}"
    return origin.get("engine") or site or ("a folder" if origin.get("file") else UNKNOWN)


def _licence(photo: Photo) -> str:
    return photo.origin.get("licence") or UNKNOWN


def _advice(photos: list[Photo]) -> str:
    unknown = sum(not _is_licensed(photo.origin) for photo in photos)
    if not unknown:
        return "The makers are named in CREDITS.csv, as their licences ask."
    return (
        f"{unknown:,} photos have no licence on record. Whether they may be kept, shown or passed on depends on "
        "their makers and on the law where you are: don't publish them without asking."
    )


def _rejected(catalog: Catalog) -> str:
    counts = rejection_counts(catalog)
    return (
        _table(("reason", "files"), counts.items()) if counts else "Everything that was offered was taken in."
    )


def _checks(catalog: Catalog, photos: list[Photo]) -> str:
    groups = {photo.group for photo in photos if photo.group}
    faults = Counter(row.data.get("kind", row.reason) for row in catalog.rows("quality"))
    removed = sum(decision.kind == "remove" and decision.state == "applied" for decision in catalog.history())
    relabelled = sum(
        decision.kind == "relabel" and decision.state == "applied" for decision in catalog.history()
    )
    lines = [
        "Each file was decoded in full before it was taken in.",
        f"Groups of copies, each on one side of the split: {len(groups)}.",
        f"Removed by hand: {removed}. Given another label: {relabelled}.",
    ]
    if faults:
        lines.append(
            "Quality to look at: "
            + ", ".join(f"{count} {kind}" for kind, count in faults.most_common())
            + "."
        )
    return "\n".join(f"- {line}" for line in lines)


def _credits(photos: list[Photo]) -> str:
    """One line a photo. Text from the web can't become a formula in a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CREDITS)
    for photo in photos:
        own = {"path": photo.path, "label": photo.label, "sha256": photo.sha256}
        writer.writerow([_plain({**photo.origin, **own}.get(name, "")) for name in CREDITS])
    return text.getvalue()


def _plain(value: object) -> str:
    text = " ".join(str(value).split())
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def _count(photos: list[Photo], key) -> list[tuple[str, int]]:
    return Counter(map(key, photos)).most_common()


def _table(head: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _write(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".", delete=False
    ) as file:
        file.write(text)
    os.chmod(file.name, 0o644)  # noqa: PTH101
    Path(file.name).replace(path)
