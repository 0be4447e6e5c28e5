"""Lists that others made come in by the same door as everything else."""

import csv
import io
import json
import tarfile

import pytest
from replica import photos
from replica.server import Replica

from winnow.catalog import Catalog
from winnow.collect.archives import NoSuchSource
from winnow.collect.lists import BadList, import_img2dataset, import_urls

QUICK = {"allow_hosts": ("127.0.0.1",), "backoff": 0.05}


def write_table(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.mark.parametrize("suffix, delimiter", [("csv", ","), ("tsv", "\t")])
def test_a_table_of_addresses_and_labels_is_downloaded(tmp_path, suffix, delimiter):
    catalog = Catalog(tmp_path / "data")
    with Replica(2) as web:
        rows = [
            ["id", "url", "label", "creator"],
            [1, web.url(1), "cat", "Ada"],
            [2, web.url(2, "404"), "dog", ""],
        ]
        rows += [[3, "", "cat", ""], [4, web.url(3), "", ""], [5, web.url(3), "dog", "Ben, Jr."]]
        report = import_urls(catalog, write_table(tmp_path / f"list.{suffix}", rows, delimiter), **QUICK)
    assert dict(report.images) == {"cat": 1, "dog": 1}
    assert report.reasons == {"bad row": 2, "not found": 1}
    assert {photo.origin["creator"] for photo in catalog.photos()} == {"Ada", "Ben, Jr."}
    assert len(catalog.rejections()) == 3


def test_a_table_without_the_columns_says_which_it_has(tmp_path):
    catalog = Catalog(tmp_path / "data")
    table = write_table(tmp_path / "list.csv", [["link", "class"], ["http://a/b", "c"]])
    with pytest.raises(BadList, match="no column 'url': it has link, class"):
        import_urls(catalog, table)
    with pytest.raises(NoSuchSource, match="There is no table"):
        import_urls(catalog, tmp_path / "none.csv")
    with Replica(1) as web:
        table = write_table(tmp_path / "list.csv", [["link", "class"], [web.url(1), "c"]])
        assert import_urls(catalog, table, url="link", label="class", **QUICK).images == {"c": 1}


def sample(number, label="cat"):
    """The metadata and bytes of one sample as img2dataset writes them."""
    about = {
        "url": f"http://a/{number}.jpg",
        "caption": f"a {label} on a mat",
        "key": f"{number:09}",
        "label": label,
    }
    about |= {"status": "success", "error_message": None, "original_width": 900, "original_height": 800}
    return about, photos.photo(number)


def write_failures(path, count=2):
    rows = [sample(number)[0] for number in range(3)]
    write_parquet(path, rows + failures(count))


def failures(count):
    return [
        {**sample(number)[0], "status": "failed_to_download", "error_message": "HTTP Error 404: Not Found"}
        for number in range(100, 100 + count)
    ]


def write_parquet(path, rows):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_shards(folder):
    """img2dataset's "parquet" format: pictures and metadata in one table, failures too."""
    folder.mkdir()
    rows = [{**about, "jpg": data} for about, data in map(sample, range(3))]
    rows.append({**sample(9)[0], "jpg": photos.bad_photo("truncated", 9)})
    write_parquet(folder / "00000.parquet", rows + [{**row, "jpg": None} for row in failures(2)])


def write_files(folder):
    (folder / "00000").mkdir(parents=True)
    for number in range(3):
        about, data = sample(number)
        (folder / "00000" / f"{about['key']}.jpg").write_bytes(data)
        (folder / "00000" / f"{about['key']}.json").write_text(json.dumps(about))
        (folder / "00000" / f"{about['key']}.txt").write_text(about["caption"])
    (folder / "00000" / "000000009.jpg").write_bytes(photos.bad_photo("truncated", 9))
    (folder / "00000" / "000000009.json").write_text(json.dumps(sample(9)[0]))


def write_tar(folder):
    folder.mkdir()
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for number in [0, 1, 2, 9]:
            about, data = sample(number)
            data = photos.bad_photo("truncated", 9) if number == 9 else data
            for suffix, content in (("jpg", data), ("txt", b"words"), ("json", json.dumps(about).encode())):
                info = tarfile.TarInfo(f"{about['key']}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("write", [write_files, write_tar, write_shards])
def test_what_img2dataset_left_becomes_photos_and_rejections(tmp_path, write):
    write(tmp_path / "out")
    if write is not write_shards:
        write_failures(tmp_path / "out" / "00000.parquet")
    (tmp_path / "out" / "00000_stats.json").write_text("{}")
    catalog = Catalog(tmp_path / "data")
    report = import_img2dataset(catalog, tmp_path / "out")
    assert dict(report.images) == {"cat": 3}
    assert report.reasons == {"img2dataset": 2, "damaged or cut off": 1}
    origin = next(photo.origin for photo in catalog.photos() if photo.origin["url"] == "http://a/1.jpg")
    assert origin["title"] == "a cat on a mat" and origin["original_width"] == 900
    assert {rejection.source for rejection in catalog.rejections()} == {
        "http://a/9.jpg", "http://a/100.jpg", "http://a/101.jpg",
    }  # fmt: skip


def test_the_class_may_be_found_in_the_caption(tmp_path):
    write_files(tmp_path / "out")
    catalog = Catalog(tmp_path / "data")
    report = import_img2dataset(catalog, tmp_path / "out", label=lambda about: about["caption"].split()[1])
    assert dict(report.images) == {"cat": 3}


def test_a_missing_class_column_names_what_there_is(tmp_path):
    write_files(tmp_path / "out")
    with pytest.raises(BadList, match="caption"):
        import_img2dataset(Catalog(tmp_path / "data"), tmp_path / "out", label="kind")
    with pytest.raises(NoSuchSource, match="no shard"):
        import_img2dataset(Catalog(tmp_path / "data"), tmp_path)


def test_a_format_that_is_not_read_says_what_to_do(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "00000.tfrecord").write_bytes(b"")
    with pytest.raises(BadList, match="--output_format webdataset"):
        import_img2dataset(Catalog(tmp_path / "data"), tmp_path / "out")
    (tmp_path / "out" / "00000.tfrecord").unlink()
    write_failures(tmp_path / "out" / "00000.parquet")
    with pytest.raises(BadList, match="holds no pictures"):
        import_img2dataset(Catalog(tmp_path / "data"), tmp_path / "out")
