"""One door for whatever a person has: a folder, an archive, a table of addresses, img2dataset's output."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from winnow.catalog import Catalog
from winnow.collect.archives import NoSuchSource, import_archive, import_folder
from winnow.collect.lists import import_img2dataset, import_urls
from winnow.collect.report import Report

TABLES = (".csv", ".tsv")


def import_any(
    catalog: Catalog, source: Path | str, *, progress: Callable[..., None] | None = None, **options
) -> Report:
    """Take in the photos of `source`, judged by what it is.

    `options` go to `import_folder`, `import_archive` (sha256), `import_urls` (url, label, of `DownloadOptions`) or
    `import_img2dataset` (label). Raises what they raise.
    """
    path = Path(source).expanduser()
    if re.match(r"https?://", str(source)):
        return import_archive(catalog, str(source), progress=progress, **options)
    if path.suffix.lower() in TABLES:
        return import_urls(catalog, path, progress=progress, **options)
    if path.is_file():
        return import_archive(catalog, path, progress=progress, **options)
    if not path.is_dir():
        raise NoSuchSource(f"There is nothing at {source}: give a folder, an archive, a table or an address.")
    if list(path.glob("[0-9]*.tar")) or (list(path.glob("[0-9]*_stats.json"))):
        return import_img2dataset(catalog, path, progress=progress, **options)
    return import_folder(catalog, path, progress=progress, **options)
