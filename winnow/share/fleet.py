"""One predictor on many workers: Ray Data spreads the photos over a machine's cores or a cluster.

Answers come in the photos' order; a worker that is killed is started again and its photos answered again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

from winnow.cluster import map_on_ray
from winnow.share.prediction import Prediction, TargetAnswer, load_predictor


def predict_on_ray(
    export: Path | str,  # every machine must see it under this path, and the photos too
    files: Iterable[Path | str],
    *,
    address: str = "local",  # "local", "auto" or "host:port"
    workers: int | None = None,  # one a core of the cluster, unless given
    batch_size: int = 32,  # photos
    tta: int = 0,  # passes of test-time augmentation, through fastai
) -> Iterator[tuple[Path, Prediction]]:
    """Each photo with its `Prediction`, the same as `Predictor.predict` gives, in order; no heat maps.

    `files` may be of any length: names and answers are held for a part of them at a time.
    Raises `NoRay` or `NoCluster` from `winnow.cluster`, and what `load_predictor` raises, before any work begins.
    """
    export = Path(export).resolve()
    _load(export, tta)
    rows = ({"path": str(file), "place": str(Path(file).absolute())} for file in files)
    options = {"address": address, "workers": workers, "batch_size": batch_size}
    with closing(map_on_ray(rows, _Worker, (str(export), tta), **options)) as answers:
        for row in answers:
            yield Path(row["path"]), _prediction(row)


def _load(export: Path | str, tta: int):
    return load_predictor(export, light=False if tta else None, threads=1)


class _Worker:
    """One predictor in one process, held to one thread: the cluster's parallelism is Ray's."""

    def __init__(self, export: str, tta: int):
        self.predictor, self.tta = _load(export, tta), tta

    def __call__(self, batch: dict) -> dict:
        places = [Path(place) for place in batch["place"]]
        answers = self.predictor.predict(places, batch_size=len(places), tta=self.tta)
        return {"path": batch["path"], "answer": [json.dumps(_plain(answer)) for answer in answers]}


def _plain(answer: Prediction) -> dict:
    targets = {name: [a.label, a.probabilities] for name, a in answer.targets.items()}
    return {
        "label": answer.label,
        "probabilities": answer.probabilities,
        "error": answer.error,
        "targets": targets,
        "unlike": answer.unlike,
        "nearest": answer.nearest,
    }


def _prediction(row: dict) -> Prediction:
    plain = json.loads(row["answer"])
    targets = {name: TargetAnswer(*answer) for name, answer in plain["targets"].items()}
    return Prediction(**{**plain, "targets": targets, "nearest": tuple(plain["nearest"])})
