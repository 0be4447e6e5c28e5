"""Why a label is doubted, in words and with evidence to look at."""

from __future__ import annotations

import numpy as np

from winnow.clean.scoring import LabelScores

LOOKED_AT = 10  # neighbours that a reason counts
SAYS = {
    "probe": "a model that never saw its label says *{suggested}* ({chance:.0%})",
    "kernel": "a second model that never saw its label says *{suggested}* ({chance:.0%})",
    "prototypes": "it looks more like a typical *{suggested}* than a typical *{label}*",
}


def explain(scores: LabelScores, row: int, classes: list[str]) -> str:
    """One sentence for photo `row`: the views that speak against its label, the loudest first, or for it."""
    given, rival = int(scores.labels[row]), int(scores.rival[row])
    doubted = scores.suspicion[row] > 0.5
    suggested, label = classes[rival], classes[given]
    agreeing = _count(scores, row, rival if doubted else given)
    counted = len(scores.nearest[row][:LOOKED_AT])
    if not doubted:
        return _reassure(agreeing, counted, label, float(scores.confidence[row]))
    parts = (
        [f"{agreeing} of its {counted} nearest neighbours are *{suggested}*"]
        if agreeing > counted / 2
        else []
    )
    for name in _loudest(scores, row, given, rival):
        chance = float(scores.views[name][row, rival])
        parts.append(SAYS[name.split()[0]].format(suggested=suggested, label=label, chance=chance))
    if scores.disbelieved(row):
        parts.insert(1, f"training was slow to believe *{label}*")
    parts = parts or [f"several views together lean towards *{suggested}*"]
    return _sentence("; ".join(parts[:2]))


def _reassure(agreeing: int, counted: int, label: str, confidence: float) -> str:
    if counted and agreeing > counted / 2:
        return f"{agreeing} of its {counted} nearest neighbours are *{label}* too."
    return f"Unusual for *{label}* ({confidence:.0%}), but no other class fits better."


def _count(scores: LabelScores, row: int, wanted: int) -> int:
    return int((scores.labels[scores.nearest[row][:LOOKED_AT]] == wanted).sum())


def _loudest(scores: LabelScores, row: int, given: int, rival: int) -> list[str]:
    """Views that prefer the rival, by how much they add to the odds; one of each kind, neighbours left out."""
    heard = {}
    for name, weight in scores.weights.items():
        if name not in scores.views:
            continue
        kind = name.split()[0]
        probs = scores.views[name][row]
        push = weight * np.log((probs[rival] + 1e-4) / (probs[given] + 1e-4))
        if kind in SAYS and probs[rival] > probs[given] and push > heard.get(kind, ("", 0))[1]:
            heard[kind] = (name, push)
    return [name for name, _ in sorted(heard.values(), key=lambda pair: -pair[1])]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
