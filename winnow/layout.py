"""How a dataset lies on disk: class folders, or class folders beneath train/, valid/ and test/."""

from __future__ import annotations

import os
import re
from pathlib import Path

from winnow.records import UnknownClass

REMOVED = ".removed"
SIDES = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}


def side_folders(folder: Path) -> dict[str, str]:
    """Folder name → side, where `folder` holds a train/ parent of class folders and its like; else empty.

    A class may well be called "train": it is a side only if folders lie in it, beside another side or alone.
    """
    names = subfolders(folder)
    sides = {name: SIDES[name.lower()] for name in names if name.lower() in SIDES}
    if len(sides) == 1 and len(names) > 1:
        return {}
    sides = {name: side for name, side in sides.items() if subfolders(folder / name)}
    return sides if "train" in sides.values() else {}


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in `folder`, sorted."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith((".", "__")) and e.is_dir())


def class_folders(folder: Path) -> list[str]:
    """The classes: the folders beneath `folder`, or beneath its train/valid/test parents."""
    if sides := side_folders(folder):
        return sorted({name for side in sides for name in subfolders(folder / side)})
    return subfolders(folder)


def home_of(folder: Path, label: str) -> tuple[str, str | None]:
    """Where a new photo of a class goes: its folder (relative), and the given side, "train", if there is one."""
    parent = next((name for name, side in side_folders(folder).items() if side == "train"), None)
    return (f"{parent}/{label}", "train") if parent else (label, None)


def label_of(path: str, side: str | None) -> str:
    """The class that a relative path stands for."""
    return path.split("/")[0 if side is None else 1]


def relabelled(path: str, side: str | None, label: str) -> str:
    """The same place in another class folder: train/shirt/a.jpg keeps its side."""
    parts = path.split("/")
    parts[0 if side is None else 1] = label
    return "/".join(parts)


def check_label(label: str) -> None:
    """Raise `UnknownClass` for a label that can't be a folder's name."""
    if not label or label != label.strip() or label.startswith((".", "__")) or re.search(r"[/\\\0\n]", label):
        raise UnknownClass(f"{label!r} can't be a class: use a name without slashes or a leading dot.")
