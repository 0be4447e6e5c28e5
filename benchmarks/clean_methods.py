"""Winnow, cleanlab and top losses as functions of a case that return scores (n,), higher for more suspect."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import numpy as np
from clean_cases import Case

from winnow.clean.scoring import score_labels
from winnow.learn.probe import fit_probe

OURS, OURS_ALL, TOP_LOSSES = (
    "Winnow, same features and folds",
    "Winnow, default views",
    "in-sample top losses",
)


def winnow_same(case: Case) -> np.ndarray:
    """Winnow on the first view's features alone."""
    return score_labels(case.blocks[0], case.given, n_classes=case.n_classes).suspicion


def winnow_all(case: Case) -> np.ndarray:
    """Winnow on every view that it caches by default."""
    return score_labels(case.blocks, case.given, n_classes=case.n_classes).suspicion


def quality(method: str, *, adjust: bool = False):
    """cleanlab's `get_label_quality_scores`."""

    def score(case: Case) -> np.ndarray:
        from cleanlab.rank import get_label_quality_scores

        return -get_label_quality_scores(
            case.given, case.out_of_fold, method=method, adjust_pred_probs=adjust
        )

    return score


def label_issues(case: Case) -> np.ndarray:
    """cleanlab's `find_label_issues`: what it finds, ranked, before the rest by self-confidence."""
    from cleanlab.filter import find_label_issues

    found = find_label_issues(
        case.given, case.out_of_fold, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    scores = -case.out_of_fold[np.arange(len(case.given)), case.given]
    scores[found] += 2
    return scores


def datalab(case: Case) -> np.ndarray:
    """cleanlab's `Datalab`, with both the probabilities and the features."""
    from cleanlab import Datalab

    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab = Datalab({"y": case.given}, label_name="y", task="classification", verbosity=0)
        lab.find_issues(pred_probs=case.out_of_fold, features=case.blocks[0], issue_types={"label": {}})
        issues = lab.get_issues("label")
    logging.disable(logging.NOTSET)
    return 2.0 * issues["is_label_issue"].to_numpy() - issues["label_score"].to_numpy()


def top_losses(case: Case) -> np.ndarray:
    """What fastai's cleaner sorts by: the loss of a head that was trained on the very labels it judges."""
    head = fit_probe(case.blocks[0], case.given, n_classes=case.n_classes)
    probs = head.predict_proba(case.blocks[0])
    return -np.log(probs[np.arange(len(case.given)), case.given] + 1e-9)


PEERS = {
    "cleanlab self_confidence": quality("self_confidence"),
    "cleanlab normalized_margin": quality("normalized_margin"),
    "cleanlab confidence_weighted_entropy": quality("confidence_weighted_entropy"),
    "cleanlab self_confidence, adjusted": quality("self_confidence", adjust=True),
    "cleanlab normalized_margin, adjusted": quality("normalized_margin", adjust=True),
    "cleanlab find_label_issues": label_issues,
    "cleanlab Datalab": datalab,
}
METHODS = {OURS: winnow_same, OURS_ALL: winnow_all, **PEERS, TOP_LOSSES: top_losses}
