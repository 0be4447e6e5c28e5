"""fastai's own top losses: the book's recipe really trained on the wrong labels, each photo's loss as its score.

A part of the photos, since an epoch takes minutes on a CPU; Winnow ranks the same photos from their features alone.
"""

from __future__ import annotations

import time

import numpy as np
from clean_cases import Case, Source, bar, plant
from clean_methods import winnow_all

PHOTOS, SIZE, EPOCHS, NOISE = 1000, 128, 3, 0.10


def bars(sources: list[Source], measure) -> list[dict]:
    """Winnow's average precision over that of fastai's cleaner, on a part of the first source with true labels."""
    source = next((source for source in sources if source.wrong is None), None)
    if source is None:
        return []
    part = np.sort(np.random.default_rng(5).permutation(len(source.labels))[:PHOTOS])
    given = plant(source.labels, source.confusion, NOISE, seed=11)[part]
    wrong = given != source.labels[part]
    case = Case(source.name, "fastai", [b[part] for b in source.blocks], given, wrong, len(source.classes))
    began = time.perf_counter()
    losses = fastai_losses([source.folder.file(source.photos[i].path) for i in part], given)
    seconds = time.perf_counter() - began
    theirs, ours = measure(losses, wrong), measure(winnow_all(case), wrong)
    print(f"\nfastai's cleaner on {len(part)} photos of {source.name}, {NOISE:.0%} planted errors:")
    print(
        f"  AP {theirs['AP']:.3f} after {seconds:.0f} s of fine_tune({EPOCHS}) at {SIZE} px; Winnow {ours['AP']:.3f}"
    )
    return [bar("AP, end to end, over fastai's top losses", ours["AP"] / theirs["AP"], 1.4)]


def fastai_losses(files: list, given: np.ndarray) -> np.ndarray:
    """Loss (n,) of each photo: 80 % were trained on, 20 % validated, as `ImageClassifierCleaner` shows them."""
    import torch
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        Normalize,
        RandomSplitter,
        Resize,
        aug_transforms,
        vision_learner,
    )

    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock(vocab=sorted(set(given.tolist())))),
        get_x=lambda row: files[row],
        get_y=lambda row: int(given[row]),
        splitter=RandomSplitter(0.2, seed=42),
        item_tfms=Resize(SIZE, method="squish"),
        batch_tfms=[*aug_transforms(), Normalize.from_stats([0.5] * 3, [0.5] * 3)],
    )
    dls = block.dataloaders(list(range(len(files))), bs=64, num_workers=0)
    learn = vision_learner(dls, "tf_efficientnet_lite0", pretrained=False, normalize=False)
    _load_imagenet(learn)
    learn.freeze()
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(EPOCHS)
        losses = np.empty(len(files))
        for side in (dls.train_ds, dls.valid_ds):
            rows = np.array(side.items)
            probs, _ = learn.get_preds(dl=dls.test_dl(rows.tolist()))
            losses[rows] = -torch.log(probs + 1e-9).numpy()[np.arange(len(rows)), _numbers(dls, given[rows])]
    return losses


def _load_imagenet(learn) -> None:
    """ImageNet weights without a hub, from the package that carries them."""
    from winnow.learn.backbones import make_backbone

    known = make_backbone("tf_efficientnet_lite0", size=SIZE).state_dict()
    body = learn.model[0].model
    missing, _ = body.load_state_dict(known, strict=False)
    if missing:
        raise RuntimeError(f"{len(missing)} of the backbone's weights were not loaded: {missing[:3]}.")


def _numbers(dls, labels: np.ndarray) -> np.ndarray:
    known = {int(name): number for number, name in enumerate(dls.vocab)}
    return np.array([known[int(label)] for label in labels])
