"""The scale benchmark's own rules: what it measures on small folders, and how it judges growth."""

import sys
from pathlib import Path

import pytest
from pictures import write_photos

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import scale_growth
import scale_photos
from scale_growth import Cell


def cells(**seconds):
    return {int(count[1:]): Cell(value, value, 100.0, 0.0) for count, value in seconds.items()}


def test_growth_is_the_worst_step_and_not_hidden_by_a_slow_start():
    linear = cells(n1000=1.0, n10000=10.0, n100000=100.0)
    assert scale_growth.growth(linear) < 0.85
    assert scale_growth.growth(cells(n1000=20.0, n10000=10.0, n100000=1000.0)) > 7  # quadratic at the end


def test_a_cell_that_would_end_too_late_is_left_out_and_named():
    found = {"probe": cells(n1000=1.0, n10000=9.0), "suspects": cells(n1000=1.0, n10000=9.0, n100000=90.0)}
    bars = scale_growth._bars(found)
    assert [bar["ok"] for bar in bars] == [True, True, None]
    assert "probe to 10,000" in bars[-1]["value"]
    assert scale_growth._expected(found["probe"], 10**5) > 90
    assert scale_growth._expected({}, 10**4) == float("inf")


def test_a_child_measures_a_step_in_its_own_process(tmp_path):
    write_photos(tmp_path / "train", {"ant": 4, "bee": 4})
    cell = scale_growth._run("verify", 12, tmp_path)
    assert cell.seconds > 0 and cell.cpu > 0 and cell.memory > 20 and cell.disk > 0


def test_small_folders_and_rare_classes_are_refused_in_a_sentence_or_left_out(tmp_path):
    write_photos(tmp_path / "photos" / "train", {"ant": 9, "bee": 10, "rare": 2})
    (tmp_path / "photos" / "train" / "ant" / "broken.jpg").write_text("no photo")
    catalog = scale_photos.lay_out(tmp_path / "photos", 1000, tmp_path / "out")
    assert catalog.classes == ["ant", "bee"] and len(catalog.photos()) == 19
    with pytest.raises(scale_photos.TooFew, match="two classes"):
        scale_photos.lay_out(tmp_path / "photos", 5, tmp_path / "few")
    with pytest.raises(scale_photos.TooFew, match="no photos"):
        scale_photos.many_files(tmp_path / "none", 5, tmp_path / "few")
