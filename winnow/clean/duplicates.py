"""Exact and near-duplicates: groups, conflicts (one photo in two classes) and leaks (on both sides of the split).

Vectors propose pairs (`looks`, and frozen features where there are any); aligning the two pictures confirms them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from winnow.clean import opencv as cv2
from winnow.clean.alignment import compare
from winnow.clean.looks import TURNS, Look, look_at_all, turned
from winnow.clean.proposals import Proposal, propose
from winnow.clean.spool import SpooledLooks
from winnow.images import sha256_of

if TYPE_CHECKING:
    from winnow.catalog import Catalog

ALIKE = 0.95  # least likeness of a copy
BEYOND = 0.45  # and its distance from 1 is at most this part of what the set's other pictures reach
JUMP = 4.0  # from one distance to the next: from copies to other pictures
HELD = 10_000  # looks that memory holds (30 kB each); more of them lie in a file
RIVALS = 400  # comparisons that show how alike different pictures of this set are


@dataclass(frozen=True)
class Duplicates:
    """What `find_duplicates` found; every list holds paths as the source gives them."""

    groups: list[list[str]]  # two or more copies of one photo
    conflicts: list[list[str]]  # groups whose photos stand in different classes
    leaks: list[list[str]]  # groups on both sides of the split
    pairs: list[tuple[str, str, float]] = field(repr=False, default_factory=list)  # with their likeness
    threshold: float = ALIKE  # likeness from which two pictures of this set count as copies

    def __len__(self) -> int:
        return len(self.groups)


def find_duplicates(
    source: Catalog | Sequence[Path | str],
    *,
    features: np.ndarray
    | None = None,  # (n, d) frozen features in the source's order; they propose more pairs
    progress: Callable[[int, int], None] | None = None,  # called with (done, total)
) -> Duplicates:
    """Find copies: the same bytes, or resized, recompressed, cropped, bordered, watermarked, mirrored, turned, grey.

    For a catalog, groups and rows ("duplicate", "conflict", "leak") are written to it; no file is touched.
    """
    names, files, hashes = _read_source(source)
    exact = dict.fromkeys(_same_bytes(hashes), 1.0)
    first_of = {sha256: number for number, sha256 in reversed(list(enumerate(hashes)))}
    unique = sorted(first_of.values())
    near, threshold = _near(
        [files[number] for number in unique], None if features is None else features[unique], progress
    )
    pairs = exact | {(unique[a], unique[b]): likeness for (a, b), likeness in near.items()}
    groups = [[names[number] for number in group] for group in _joined(pairs)]
    listed = [(names[a], names[b], round(likeness, 4)) for (a, b), likeness in sorted(pairs.items())]
    if not hasattr(source, "photos"):
        return Duplicates(groups, [], [], listed, threshold)
    found = _judge(source, groups, listed, threshold)
    _write(source, found)
    return found


def _read_source(source) -> tuple[list[str], list[Path], list[str]]:
    if hasattr(source, "photos"):
        photos = source.photos()
        paths = [photo.path for photo in photos]
        return paths, [source.file(path) for path in paths], [photo.sha256 for photo in photos]
    files = [Path(file) for file in source]
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        return [str(file) for file in source], files, list(pool.map(sha256_of, files))


def _same_bytes(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Each image with the same bytes as an earlier one, paired with the first."""
    first: dict[str, int] = {}
    return [
        (first[sha], number) for number, sha in enumerate(hashes) if first.setdefault(sha, number) != number
    ]


def _near(
    files: list[Path], features: np.ndarray | None, progress
) -> tuple[dict[tuple[int, int], float], float]:
    """Confirmed pairs of different files with their likeness, and the threshold that this set asks for."""
    looks, seen = _look(files, progress)
    if len(seen) < 2:
        return {}, ALIKE
    proposals, rivals = propose(looks, None if features is None else features[seen], rivals=RIVALS)
    likeness = _compare_all(looks, [*proposals, *rivals])
    threshold = set_threshold(likeness[len(proposals) :])
    confirmed = {
        tuple(sorted((seen[p.first], seen[p.second]))): value
        for p, value in zip(proposals, likeness, strict=False)
        if value >= threshold
    }
    return confirmed, threshold


def set_threshold(rivals: Sequence[float]) -> float:
    """The likeness that a copy must reach, from what pictures that are hardly copies reach in this set.

    Solar cells look alike: there a likeness of 0.95 says nothing, and copies must be nearer to 1 by half.
    """
    if len(rivals) < 12:
        return ALIKE
    distances = np.sort(1 - np.asarray(rivals))
    first = distances[: len(distances) // 5 + 1]
    jumps = first[1:] / np.maximum(first[:-1], 1e-4)
    if jumps.max() > JUMP:  # what lies before such a jump were copies, after all
        distances = distances[int(jumps.argmax()) + 1 :]
    return max(ALIKE, 1 - BEYOND * float(np.quantile(distances, 0.01)))


def _look(files: list[Path], progress) -> tuple[Sequence[Look], list[int]]:
    """The looks of the files that can be read, and which files these are."""
    looks = [] if len(files) <= HELD else SpooledLooks()
    seen = []
    for number, look in enumerate(look_at_all(files)):
        if look:
            looks.append(look)
            seen.append(number)
        if progress:
            progress(number + 1, len(files))
    return looks, seen


def _compare_all(looks: Sequence[Look], proposals: Iterable[Proposal]) -> list[float]:
    """The likeness of each proposed pair; OpenCV's own threads would only wait for each other."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
            return list(pool.map(lambda proposal: _likeness(looks, proposal), proposals, chunksize=16))
    finally:
        cv2.setNumThreads(before)


def _likeness(looks: Sequence[Look], proposal: Proposal) -> float:
    first, second = looks[proposal.first], looks[proposal.second]
    one, two = first.grey, second.grey
    inner, other = first.trim_off(one), second.trim_off(two)
    if inner.shape != one.shape and other.shape != two.shape:  # two borders are alike whatever they frame
        one, two = inner, other
    elif proposal.variant == TURNS:
        one = inner
    return compare(two, turned(one, proposal.variant if proposal.variant < TURNS else 0)).likeness


def _joined(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Pairs that hang together, as sorted lists."""
    group = {}
    for first, second in sorted(pairs):
        a, b = group.setdefault(first, [first]), group.setdefault(second, [second])
        if a is not b:
            a += b
            group.update(dict.fromkeys(b, a))
    unique = {id(members): members for members in group.values()}
    return sorted(sorted(members) for members in unique.values())


def _judge(catalog: Catalog, groups: list[list[str]], pairs, threshold: float) -> Duplicates:
    photos = {photo.path: photo for photo in catalog.photos()}
    conflicts = [group for group in groups if len({photos[path].label for path in group}) > 1]
    leaks = [group for group in groups if len({photos[path].split for path in group} - {None}) > 1]
    return Duplicates(groups, conflicts, leaks, pairs, threshold)


def _write(catalog: Catalog, found: Duplicates) -> None:
    """Groups and rows to review, in place of those of an earlier search."""
    earlier = {path: None for paths in catalog.groups().values() for path in paths}
    numbered = {path: number for number, group in enumerate(found.groups, 1) for path in group}
    catalog.set_groups(earlier | numbered)
    photos = {photo.path: photo for photo in catalog.photos()}
    for kind, groups in (("duplicate", found.groups), ("conflict", found.conflicts), ("leak", found.leaks)):
        rows = [
            (path, _reason(kind, path, group, photos), _data(path, group))
            for group in groups
            for path in group
        ]
        catalog.queue_rows(kind, rows, replace=True)


def _reason(kind: str, path: str, group: list[str], photos: dict) -> str:
    others = [other for other in group if other != path]
    if kind == "conflict":
        others = [other for other in others if photos[other].label != photos[path].label] or others
        return f"Also stands in class {photos[others[0]].label!r}: {_list(others)}."
    if kind == "leak":
        others = [other for other in others if photos[other].split != photos[path].split] or others
        return f"Also on the other side of the split ({photos[others[0]].split}): {_list(others)}."
    return f"The same photo as {_list(others)}."


def _list(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _data(path: str, group: list[str]) -> dict:
    return {"others": [other for other in group if other != path]}
