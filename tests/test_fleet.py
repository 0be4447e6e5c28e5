"""The predictor on a real two-node Ray cluster."""

import numpy as np
import psutil
import pytest

from winnow.cluster import NoCluster, connect_ray
from winnow.images import BadImage, find_images
from winnow.learn.features import extract_features
from winnow.share.fleet import predict_on_ray
from winnow.share.prediction import MissingExport, load_predictor


def test_two_nodes_answer_as_one_machine_does_though_a_worker_is_killed(
    ray_cluster, trained_export, cell_photos, tmp_path
):
    (tmp_path / "note.jpg").write_text("no photo")
    files = [*find_images(cell_photos), tmp_path / "note.jpg"]
    answers = {}
    for path, answer in predict_on_ray(trained_export, files, address=ray_cluster, batch_size=8):
        if not answers:
            kill_a_worker()
        assert path not in answers
        answers[path] = answer
    assert list(answers) == files
    expected = load_predictor(trained_export).predict(files)
    assert [answers[file].label for file in files] == [answer.label for answer in expected]
    assert answers[files[0]].probabilities == pytest.approx(expected[0].probabilities, abs=1e-5)
    assert "note.jpg" in answers[files[-1]].error or answers[files[-1]].error


def test_two_nodes_give_the_features_of_one_machine_though_a_worker_is_killed(
    ray_cluster, cell_photos, tmp_path
):
    files = find_images(cell_photos)  # at 192 pixels they keep the workers busy while one is killed
    here = extract_features(files, size=192)
    killed = []

    def kill_once(done, total):
        if not killed:
            kill_a_worker()
            killed.append(done)

    there = extract_features(
        files, size=192, cache=tmp_path / "new", ray_address=ray_cluster, progress=kill_once
    )
    assert killed and np.allclose(here, there, atol=1e-5)
    again = extract_features(
        files, size=192, cache=tmp_path / "new", ray_address="nobody:1"
    )  # all from the cache
    assert np.array_equal(again, there)


def test_a_file_that_is_no_photo_is_the_same_error_on_a_cluster(ray_cluster, tmp_path):
    (tmp_path / "note.jpg").write_text("no photo")
    with pytest.raises(BadImage):
        extract_features([tmp_path / "note.jpg"], size=64, ray_address=ray_cluster)


def kill_a_worker():
    workers = [p for p in psutil.process_iter(["cmdline"]) if "ray::" in " ".join(p.info["cmdline"] or [])]
    mapping = [p for p in workers if "_Worker" in " ".join(p.info["cmdline"])]
    assert mapping, [p.info["cmdline"] for p in workers]
    mapping[0].kill()


def test_a_missing_export_is_refused_before_ray_starts(tmp_path):
    with pytest.raises(MissingExport):
        next(predict_on_ray(tmp_path / "export.pkl", [tmp_path / "a.jpg"]))


def test_a_cluster_that_does_not_answer_is_one_sentence():
    import ray

    ray.shutdown()
    with pytest.raises(NoCluster, match="ray start"):
        connect_ray("127.0.0.1:1")
