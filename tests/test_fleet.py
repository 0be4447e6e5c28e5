"""The predictor on a real two-node Ray cluster."""

import psutil
import pytest

from winnow.cluster import NoCluster, connect_ray
from winnow.images import find_images
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
    expected = load_predictor(trained_export).predict(files)
    assert [answers[file.resolve()].label for file in files] == [answer.label for answer in expected]
    assert answers[files[0].resolve()].probabilities == pytest.approx(expected[0].probabilities, abs=1e-5)
    assert "note.jpg" in answers[files[-1].resolve()].error or answers[files[-1].resolve()].error


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
