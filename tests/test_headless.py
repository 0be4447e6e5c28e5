"""Training from a terminal: a folder or a CSV in, an export out."""

import csv
import shutil
import subprocess
import sys

import pytest

from winnow.catalog import Catalog
from winnow.collect.sample import write_sample
from winnow.collect.tables import BadTable, import_table
from winnow.headless import NoDataset, open_dataset, train_dataset
from winnow.share.prediction import load_predictor


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """80 solar cells in class folders."""
    return write_sample(tmp_path_factory.mktemp("cells") / "cells", limit=80)


def write_table(path, cells, *, valid_every=None):
    photos = cells.photos()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "type", "valid"] if valid_every else ["image", "label", "type"])
        for i, photo in enumerate(photos):
            name = f"{photo.sha256[:8]}.png"
            shutil.copy(cells.file(photo.path), path.parent / name)
            row = [name, photo.label, photo.targets["type"]]
            writer.writerow([*row, int(i % valid_every == 0)] if valid_every else row)
    return photos


def test_a_table_gives_labels_a_second_target_and_the_split(cells, tmp_path):
    photos = write_table(tmp_path / "cells.csv", cells, valid_every=4)
    catalog = import_table(tmp_path / "cells.csv", tmp_path / "out")
    by_hash = {photo.sha256: photo for photo in catalog.photos()}
    for i, photo in enumerate(photos):
        twin = by_hash[photo.sha256]
        assert (twin.label, twin.targets) == (photo.label, photo.targets)
        assert twin.split == ("valid" if i % 4 == 0 else "train")


def test_a_second_import_of_the_same_table_changes_nothing(cells, tmp_path):
    write_table(tmp_path / "cells.csv", cells)
    first = import_table(tmp_path / "cells.csv", tmp_path / "out").photos()
    assert import_table(tmp_path / "cells.csv", tmp_path / "out").photos() == first


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("file,label\na.png,x\n", "no column 'image'"),
        ("image,label\n", "no rows"),
        ("image,label\nnone.png,x\n", "Line 2 of t.csv names none.png"),
        ("image,label\nt.csv,../up\n", "can't name a class folder"),
    ],
)
def test_a_bad_table_is_one_sentence_and_writes_nothing(tmp_path, text, why):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadTable, match=why):
        import_table(tmp_path / "t.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_neither_folder_nor_table_is_one_sentence(tmp_path):
    with pytest.raises(NoDataset, match="neither"):
        open_dataset(tmp_path / "none")


def test_the_command_trains_a_folder_exports_and_lists_the_run(cells, tmp_path):
    folder = shutil.copytree(cells.folder, tmp_path / "cells", ignore=shutil.ignore_patterns("catalog.db*"))
    options = ["--epochs", "1", "--size", "64", "--batch-size", "16", "--out", str(tmp_path / "export.pkl")]
    done = winnow("train", str(folder), *options)
    assert done.returncode == 0, done.stderr
    assert "macro-F1" in done.stdout
    answers = load_predictor(tmp_path / "export.pkl").predict(list(folder.rglob("*.png"))[:3])
    assert {answer.label for answer in answers} <= {"defective", "functional"}
    listed = winnow("runs", str(folder), "--kind", "train")
    assert "tf_efficientnet_lite0" in listed.stdout
    assert [run.params["epochs"] for run in Catalog(folder).runs() if run.kind == "train"] == [1]


def test_a_table_with_a_second_target_and_its_own_split_is_trained_and_answers_both(cells, tmp_path):
    write_table(tmp_path / "cells.csv", cells, valid_every=4)
    options = {"epochs": 1, "size": 48, "batch_size": 16, "workers": 1}
    train_dataset(tmp_path / "cells.csv", out=tmp_path / "export.pkl", **options)
    catalog = Catalog(tmp_path / "cells")
    assert len(catalog.photos(split="valid")) == 20
    predictor = load_predictor(tmp_path / "export.pkl")
    assert predictor.targets == {"type": ["mono", "poly"]}
    answer = predictor.predict([catalog.file(catalog.photos()[0].path)])[0]
    assert answer.label in catalog.classes and answer.targets["type"].label in ("mono", "poly")


def winnow(*arguments):
    return subprocess.run([sys.executable, "-m", "winnow.cli", *arguments], capture_output=True, text=True)
