"""Who learns and who checks: a split that is stratified, keeps duplicates together and never changes."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from winnow.layout import side_folders
from winnow.records import EmptyClass, NoImages, Photo, TooFewImages
from winnow.store import Store


def freeze_sides(store: Store, photos: Sequence[Photo], *, valid: float, seed: int) -> None:
    """Give each photo without a side one, for life; where the folders are the split, they stay it."""
    given = set(side_folders(store.folder).values())
    if "valid" in given:
        return  # the folders are the split
    if given:  # train/ without valid/: photos there may check, unless they were told before that they learn
        frozen = {row[0] for row in store.db.execute("SELECT sha256 FROM images WHERE side IS NOT NULL")}
        photos = [p if p.split != "train" or p.sha256 in frozen else replace(p, split=None) for p in photos]
    sides = choose_sides(photos, valid=valid, seed=seed)
    with store.write() as db:
        db.executemany(
            "UPDATE images SET side = ? WHERE sha256 = ? AND side IS NULL",
            [(side, sha256) for sha256, side in sides.items()],
        )


def check_classes(store: Store, classes: Iterable[str], photos: Sequence[Photo]) -> None:
    """Raise `NoImages`, `EmptyClass` or `TooFewImages` if nothing could be learned and checked."""
    counts = Counter(dict.fromkeys(classes, 0))
    counts.update(photo.label for photo in photos)
    if not sum(counts.values()):
        raise NoImages(
            f"{store.folder} has no images in class folders: put each class's photos into a folder."
        )
    for name, count in counts.items():
        if count == 0:
            raise EmptyClass(f"Class {name!r} has no image: add some to its folder or remove the folder.")
        if count == 1:
            raise TooFewImages(
                f"Class {name!r} has one image, and one to learn from and one to check are needed: add more."
            )


def choose_sides(
    photos: Sequence[Photo],
    *,
    valid: float = 0.2,  # share of each class that checks
    seed: int = 42,
) -> dict[str, str]:
    """`sha256 → side` for the photos that have none yet.

    Photos that share bytes or a duplicate group share a side, and follow one that has a side already.
    The order is drawn from `seed` and the image's own hash, so neither file names nor other photos
    matter to it.
    """
    sides: dict[str, str] = {}
    counts: dict[str, Counter] = defaultdict(Counter)
    loose = []
    for unit in _units(photos):
        taken = Counter(photo.split for photo in unit if photo.split)
        for photo in unit:
            counts[photo.label][photo.split or (taken and taken.most_common(1)[0][0]) or "none"] += 1
        if taken:
            sides |= {photo.sha256: taken.most_common(1)[0][0] for photo in unit if not photo.split}
        else:
            loose.append(unit)
    loose.sort(key=lambda unit: min(_draw(seed, photo.sha256) for photo in unit))
    of_class: dict[str, list] = defaultdict(list)
    for unit in loose:
        of_class[_class_of(unit)].append(unit)
    for label in sorted(counts):
        for unit, side in _divide(of_class[label], counts[label], valid):
            sides |= {photo.sha256: side for photo in unit}
    return sides


def _divide(units: list[list[Photo]], count: Counter, valid: float) -> list[tuple[list[Photo], str]]:
    """Give units of one class to "valid" until its share is full, the rest to "train"."""
    pool = count.total() - count["test"]
    wanted = max(round(valid * pool), 1 if pool > 1 and valid > 0 else 0) - count["valid"]
    chosen = []
    for unit in units:
        side = "valid" if len(unit) <= wanted else "train"
        wanted -= len(unit) if side == "valid" else 0
        chosen.append((unit, side))
    sides = {side for _, side in chosen} | {side for side in ("train", "valid") if count[side]}
    if sides == {"train"} and len(chosen) > 1 and valid > 0:  # only big groups: take the smallest
        least = min(range(len(chosen)), key=lambda i: len(chosen[i][0]))
        chosen[least] = (chosen[least][0], "valid")
    return chosen


def _units(photos: Sequence[Photo]) -> list[list[Photo]]:
    """Photos tied together by equal bytes or a common group, as lists."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while (up := parent.setdefault(key, key)) != key:
            parent[key] = key = parent[up]
        return key

    for photo in photos:
        if photo.group is not None:
            parent[root(f"group:{photo.group}")] = root(photo.sha256)
    units = defaultdict(list)
    for photo in photos:
        units[root(photo.sha256)].append(photo)
    return list(units.values())


def _class_of(unit: list[Photo]) -> str:
    """The class that most of a unit's photos have; the first by name on a tie."""
    if len(unit) == 1:
        return unit[0].label
    return min(Counter(photo.label for photo in unit).items(), key=lambda item: (-item[1], item[0]))[0]


def _draw(seed: int, sha256: str) -> bytes:
    return hashlib.sha256(f"{seed}:{sha256}".encode()).digest()
