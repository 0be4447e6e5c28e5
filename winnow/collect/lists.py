"""Lists of pictures that others made: a CSV of addresses and labels, and what img2dataset leaves behind."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from winnow.catalog import Catalog
from winnow.collect.archives import IntakeFailed, NoSuchSource
from winnow.collect.download import download
from winnow.collect.found import Found
from winnow.collect.report import Report, reason_of
from winnow.images import BadImage, is_image_name

ABOUT = ("page", "title", "creator", "licence", "licence_url", "attribution", "engine", "query")


ENCODINGS = ("jpg", "png", "webp")  # img2dataset's column of pictures is called by one of these


class BadList(IntakeFailed):
    """The list lacks a column that is needed; nothing was fetched or taken in."""


def import_urls(
    catalog: Catalog,
    table: Path | str,
    *,
    url: str = "url",  # the column with the address
    label: str = "label",  # the column with the class
    progress: Callable[[int, int, str], None] | None = None,
    **options,  # of `DownloadOptions`
) -> Report:
    """Download the addresses of a CSV (or .tsv) table into the catalog; see `download`.

    Columns called page, title, creator, licence, licence_url and attribution are kept with each photo. A row without
    an address or a class becomes a rejection. The table is read bit by bit, so it may be as long as you like. Raises
    `NoSuchSource` and `BadList`.
    """
    table = Path(table).expanduser()
    if not table.is_file():
        raise NoSuchSource(f"There is no table {table}: check the path.")
    broken = Report()
    report = download(catalog, _rows(catalog, table, url, label, broken), progress=progress, **options)
    return report + broken


def import_img2dataset(
    catalog: Catalog,
    folder: Path | str,
    *,
    label: str
    | Callable[[dict], str] = "label",  # the column with the class, or what finds it in a sample's metadata
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Take in what img2dataset downloaded, in its "files", "webdataset" or "parquet" format, with address and caption.

    Keep the class through img2dataset by its `save_additional_columns=["label"]`, or find it in the caption by a
    function. Its own failures (in the shards' .parquet) become rejections. Raises `NoSuchSource` and `BadList`.
    """
    folder = Path(folder).expanduser()
    shards = _shards(folder)
    report = Report()
    for count, shard in enumerate(shards, start=1):
        read = {".tar": _tar_samples, ".parquet": _parquet_samples}.get(shard.suffix, _file_samples)
        for about, data in read(shard):
            _take(catalog, shard, about, data, label, report)
        for about in _failures(shard, report):
            _refuse(catalog, shard, about, label, report)
        if progress:
            progress(count, len(shards), f"{sum(report.images.values()):,} photos")
    return report


# -- a CSV ------------------------------------------------------------------------------------------


def _rows(catalog: Catalog, table: Path, url: str, label: str, broken: Report) -> Iterator[Found]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t" if table.suffix == ".tsv" else ",")
        if missing := [name for name in (url, label) if name not in (reader.fieldnames or [])]:
            columns = ", ".join(reader.fieldnames or []) or "none"
            raise BadList(f"{table.name} has no column {missing[0]!r}: it has {columns}. Name the right one.")
        for row in reader:
            address, name = (row[url] or "").strip(), (row[label] or "").strip()
            if address and name:
                about = {column: row[column] for column in ABOUT if row.get(column)}
                yield Found(url=address, label=name, **about)
            else:
                reason = f"bad row: no {'class' if address else 'address'}"
                catalog.reject(address or f"{table.name}, line {reader.line_num}", reason, label=name or None)
                broken.refuse(name, reason)


# -- img2dataset ------------------------------------------------------------------------------------


def _shards(folder: Path) -> list[Path]:
    """The folder's shards, each in the one form that holds the pictures. Raises `NoSuchSource` and `BadList`."""
    if any(folder.glob("*.tfrecord")):
        raise BadList(
            f"{folder.name} is in img2dataset's tfrecord format, which isn't read here: run img2dataset again with "
            "--output_format webdataset, or parquet, or files."
        )
    found = [path for path in folder.glob("*") if path.suffix == ".tar" or _is_shard(path)]
    found = found or [path for path in folder.glob("*.parquet") if path.stem.isdigit()]
    if not found:
        raise NoSuchSource(
            f"{folder} holds no shard of img2dataset (00000/, .tar or .parquet): check the path."
        )
    return sorted(found)


def _is_shard(path: Path) -> bool:
    return path.is_dir() and path.name.isdigit()


def _parquet_samples(shard: Path) -> Iterator[tuple[dict, bytes]]:
    """(metadata, image bytes) of a shard in the "parquet" format: a column named after the pictures' encoding."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise BadList(
            f"{shard.name} needs pyarrow to be read: pip install pyarrow, then try again."
        ) from error
    table = parquet.ParquetFile(shard)
    column = next((name for name in ENCODINGS if name in table.schema_arrow.names), None)
    if column is None:
        raise BadList(
            f"{shard.name} holds no pictures, only their addresses: where are the shards beside it?"
        )
    for batch in table.iter_batches(batch_size=64):
        for row in batch.to_pylist():
            if data := row.pop(column):
                yield row, data


def _file_samples(shard: Path) -> Iterator[tuple[dict, bytes]]:
    """(metadata, image bytes) of a shard in the "files" format."""
    for image in sorted(path for path in shard.iterdir() if is_image_name(path.name)):
        about = image.with_suffix(".json")
        yield _json(about.read_bytes()) if about.exists() else {}, image.read_bytes()


def _tar_samples(shard: Path) -> Iterator[tuple[dict, bytes]]:
    """(metadata, image bytes) of a shard in the "webdataset" format: members of one stem stand together."""
    stem, about, data = None, {}, None
    with tarfile.open(shard) as tar:
        for member in tar:
            if not member.isreg():
                continue
            name = PurePosixPath(member.name)
            if str(name.with_suffix("")) != stem:
                if data is not None:
                    yield about, data
                stem, about, data = str(name.with_suffix("")), {}, None
            if name.suffix == ".json":
                about = _json(tar.extractfile(member).read())
            elif is_image_name(name.name):
                data = tar.extractfile(member).read()
    if data is not None:
        yield about, data


def _failures(shard: Path, report: Report) -> Iterator[dict]:
    """Metadata of what img2dataset could not get, where pyarrow is there to read it."""
    table = shard.parent / f"{shard.stem}.parquet"
    if not table.exists():
        return
    try:
        from pyarrow import parquet
    except ImportError:
        note = "Install pyarrow to see what img2dataset could not download."
        report.notes += [note] if note not in report.notes else []
        return
    columns = [name for name in parquet.read_schema(table).names if name not in ENCODINGS]
    rows = parquet.read_table(table, columns=columns).to_pylist()
    yield from (row for row in rows if row.get("status") != "success")


def _take(catalog: Catalog, shard: Path, about: dict, data: bytes, label, report: Report) -> None:
    name = _label_of(about, label, shard)
    origin = _origin(about)
    try:
        catalog.add(data, name, name=None, origin=origin)
        report.accept(name)
    except BadImage as error:
        catalog.reject(about.get("url") or f"{shard.name}/{about.get('key')}", reason_of(error), label=name)
        report.refuse(name, reason_of(error))


def _refuse(catalog: Catalog, shard: Path, about: dict, label, report: Report) -> None:
    name = _label_of(about, label, shard)
    reason = f"img2dataset: {about.get('error_message') or about.get('status')}"
    catalog.reject(
        about.get("url") or f"{shard.name}/{about.get('key')}", reason, label=name, origin=_origin(about)
    )
    report.refuse(name, reason)


def _label_of(about: dict, label: str | Callable[[dict], str], shard: Path) -> str:
    name = label(about) if callable(label) else about.get(label)
    if not name:
        columns = ", ".join(sorted(about)) or "none"
        raise BadList(
            f"A sample of {shard.name} has no {label if isinstance(label, str) else 'class'!r}: its columns are "
            f"{columns}. Say which holds the class."
        )
    return str(name)


def _origin(about: dict) -> dict:
    known = {"url": about.get("url"), "title": about.get("caption"), "engine": "img2dataset"}
    known |= {f"original_{name}": about.get(f"original_{name}") for name in ("width", "height")}
    known |= {
        "original_sha256": about.get("sha256"),
        **{name: about.get(name) for name in ABOUT if about.get(name)},
    }
    return {name: value for name, value in known.items() if value}


def _json(data: bytes) -> dict:
    try:
        return json.loads(data)
    except ValueError:
        return {}
