"""Answers for folders and lists of any length: resumable, the same table after a kill, bounded memory."""

import csv
import os
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from itertools import islice

import pytest

from winnow.images import find_images
from winnow.share.answers import NothingToPredict, write_answers
from winnow.share.fleet import predict_on_ray
from winnow.share.listing import Listing
from winnow.share.prediction import load_predictor


@pytest.fixture
def photos(cell_photos, tmp_path):
    """40 photos in two folders, linked."""
    for number, file in enumerate(find_images(cell_photos)[:40]):
        place = tmp_path / "photos" / f"part{number % 2}" / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file)
    return tmp_path / "photos"


def table_of(export, photos, out, **options):
    write_answers(load_predictor(export), [photos], out, **options)
    return out.read_bytes()


def mark_first_row(part):
    """Change an answer that is there already, so that a second look at its photo would show."""
    rows = list(csv.reader(part.open(newline="")))
    rows[1][1] = "marked"
    with part.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return len(rows) - 1


def test_a_killed_prediction_goes_on_behind_its_last_row(trained_export, photos, tmp_path):
    whole = table_of(trained_export, photos, tmp_path / "whole.csv")
    blocking = photos / "part1" / "021.png"
    target = blocking.readlink()
    blocking.unlink()
    os.mkfifo(blocking)  # whoever opens it waits, so the kill comes in the middle
    command = [sys.executable, "-m", "winnow.cli", "predict", trained_export, photos, "--batch-size", "1"]
    command = [*map(str, command), "--out", str(tmp_path / "out.csv")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    part = tmp_path / ".out.csv.part"
    wait_for(lambda: part.exists() and part.read_bytes().count(b"\r\n") > 24)
    process.kill()
    process.wait()
    assert not (tmp_path / "out.csv").exists()
    blocking.unlink()
    blocking.symlink_to(target)
    assert mark_first_row(part) >= 24
    with part.open("ab") as file:
        file.write(b"half a ro")  # as a kill in the middle of a write would leave it
    subprocess.run(command, check=True, capture_output=True)
    rows = list(csv.reader((tmp_path / "out.csv").open(newline="")))
    assert rows[1][1] == "marked"  # it was not predicted again
    expected = list(csv.reader(whole.decode().splitlines()))
    assert [row[0] for row in rows] == [row[0] for row in expected] and rows[2:] == expected[2:]
    assert not list(tmp_path.glob(".out.csv*"))


def test_a_photo_that_changed_since_is_answered_again(trained_export, photos, tmp_path):
    out = tmp_path / "out.csv"
    whole = table_of(trained_export, photos, out)
    interrupt(trained_export, photos, out, after=30)
    mark_first_row(tmp_path / ".out.csv.part")
    first = find_images(photos)[0]
    target = first.readlink()
    first.unlink()
    first.write_bytes(target.read_bytes())
    os.utime(first, (time.time() + 5,) * 2)
    assert table_of(trained_export, photos, out) == whole


def test_rows_of_other_options_are_not_taken_up(trained_export, photos, tmp_path):
    out = tmp_path / "out.csv"
    interrupt(trained_export, photos, out, after=10)
    mark_first_row(tmp_path / ".out.csv.part")
    about = tmp_path / ".out.csv.part.json"
    about.write_text(about.read_text().replace('"tta": 0', '"tta": 4'))
    assert b"marked" not in table_of(trained_export, photos, out)


def test_ray_writes_the_same_table_and_goes_on_where_it_was_cut_off(
    trained_export, photos, tmp_path, ray_cluster
):
    (photos / "part0" / "999.png").write_text("no photo")
    here = list(csv.reader(table_of(trained_export, photos, tmp_path / "here.csv").decode().splitlines()))
    out = tmp_path / "out.csv"
    answer = partial(predict_on_ray, trained_export, address=ray_cluster, batch_size=4)
    interrupt(trained_export, photos, out, after=20, answer=answer)
    assert mark_first_row(tmp_path / ".out.csv.part") == 20
    there = list(csv.reader(table_of(trained_export, photos, out, answer=answer).decode().splitlines()))
    assert there[1][1] == "marked"
    for mine, theirs in zip(here[2:], there[2:], strict=True):
        assert mine[:2] == theirs[:2] and mine[-1] == theirs[-1]
        assert [float(v or 0) for v in mine[4:-1]] == pytest.approx(
            [float(v or 0) for v in theirs[4:-1]], abs=2e-6
        )


def interrupt(export, photos, out, *, after, answer=None):
    """End a prediction `after` some rows, as Ctrl-C would."""
    predictor = load_predictor(export)
    answer = answer or (lambda files: (row for row in zip(files, predictor.predict(files), strict=True)))

    def cut_off(files):
        with closing(answer(list(files))) as answers:
            yield from islice(answers, after)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_answers(predictor, [photos], out, answer=cut_off)


def test_a_listing_walks_as_find_images_does_and_reads_lists_beside(photos, tmp_path):
    (photos / ".hidden").mkdir()
    (photos / ".hidden" / "a.png").write_bytes(b"")
    (photos / "part0.png").write_bytes(b"")  # sorts behind the folder part0
    (photos / "notes.md").write_text("no photo")
    assert list(Listing([photos])) == find_images(photos)
    (tmp_path / "list.txt").write_text("photos/part1/001.png\n\nphotos/part0/000.png\r\n")
    listed = Listing([tmp_path / "list.txt", photos / "part1" / "003.png"])
    names = ["part1/001.png", "part0/000.png", "part1/003.png"]
    assert list(listed) == list(listed) == [photos / name for name in names] and len(listed) == 3


def test_nothing_to_predict_is_one_sentence(tmp_path, trained_export):
    for source in (tmp_path, tmp_path / "none"):
        with pytest.raises(NothingToPredict):
            write_answers(load_predictor(trained_export), [source], tmp_path / "out.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_averages_augmented_passes_into_a_submission(trained_export, photos, tmp_path):
    some = tmp_path / "list.txt"
    some.write_text("\n".join(str(file) for file in find_images(photos)[:3]))
    command = [sys.executable, "-m", "winnow.cli", "predict", trained_export, some, "--tta", "--out"]
    done = subprocess.run([*map(str, command), str(tmp_path / "s.csv")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    averaged = list(csv.DictReader((tmp_path / "s.csv").open()))
    plain = load_predictor(trained_export).predict(find_images(photos)[:3])
    assert [float(row["p_defective"]) for row in averaged] != [p.probabilities["defective"] for p in plain]
    assert all(abs(float(r["p_defective"]) + float(r["p_functional"]) - 1) < 1e-5 for r in averaged)


def wait_for(condition, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
