"""What benchmarks/share.py serves and sends: both apps on one export, photos of two sizes, hostile files."""

from __future__ import annotations

import io
import itertools
import shutil
import zipfile
from pathlib import Path

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from winnow.images import BadImage, find_images, thumbnail

ROOT = Path(__file__).parents[1]
# The app of fastai's book (fastai/bear_voila), for ipywidgets 8.
BEAR = """
from fastai.vision.all import *
from fastai.vision.widgets import *
learn_inf = load_learner("export.pkl", cpu=True)
btn_upload = widgets.FileUpload()
out_pl = widgets.Output()
lbl_pred = widgets.Label()
def on_data_change(change):
    lbl_pred.value = ''
    img = PILImage.create(bytes(btn_upload.value[-1].content))
    out_pl.clear_output()
    with out_pl: display(img.to_thumb(128, 128))
    pred, pred_idx, probs = learn_inf.predict(img)
    lbl_pred.value = f'Prediction: {pred}; Probability: {probs[pred_idx]:.04f}'
btn_upload.observe(on_data_change, names=['value'])
display(VBox([widgets.Label('Select your bear!'), btn_upload, out_pl, lbl_pred]))
"""
EMPTY = "import ipywidgets\nipywidgets.Button(description='Upload')"
MOST_PHOTOS, SMALL = 400, 480  # photos that the model learns from; pixels of a small photo's longer side


def make_apps(folder: Path, data: Path | None, per_class: int) -> dict[str, Path]:
    """One export, and a folder with a notebook for each app; `photos/` holds what visitors send."""
    export = make_export(folder, data, per_class)
    sources = {"winnow": None, "bear": BEAR, "empty": EMPTY}
    for name, source in sources.items():
        (folder / name).mkdir()
        for file in (export, export.with_suffix(".onnx")):
            shutil.copy(file, folder / name)
        if source is None:
            shutil.copy(ROOT / "app.ipynb", folder / name / "app.ipynb")
        else:
            write_notebook(folder / name / "app.ipynb", source)
    return {name: folder / name / "app.ipynb" for name in sources}


def write_notebook(path: Path, source: str) -> None:
    nb = new_notebook(cells=[new_code_cell(source)])
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nb, path)


def make_export(folder: Path, data: Path | None, per_class: int) -> Path:
    """EfficientNet-Lite0 at 192 pixels with a head from a linear probe, as a fastai learner, exported."""
    import torch
    from fastai.vision.all import CrossEntropyLossFlat, ImageDataLoaders, Learner, Normalize, Resize
    from fastai.vision.learner import TimmBody

    from winnow.learn.backbones import make_backbone
    from winnow.learn.probe import fit_probe
    from winnow.share.export import export_learner

    classes = folder / "classes"
    copy_some(data, classes, per_class)
    norm = Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=False)
    dls = ImageDataLoaders.from_folder(
        classes, valid_pct=0.25, seed=1, item_tfms=Resize(192, method="squish"), bs=16, num_workers=0, batch_tfms=norm
    )  # fmt: skip
    body = TimmBody(make_backbone("tf_efficientnet_lite0", size=192)).eval()
    head = torch.nn.Linear(1280, dls.c)
    with torch.inference_mode():
        seen = [(body(x).mean((2, 3)), y) for x, y in dls.train.new(shuffle=False, drop_last=False)]
    features, labels = (torch.cat(part).numpy() for part in zip(*seen, strict=True))
    probe = fit_probe(features, labels, n_classes=dls.c)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(probe.weight))
        head.bias.copy_(torch.tensor(probe.bias))
    pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)
    learn = Learner(dls, torch.nn.Sequential(body, pooled), loss_func=CrossEntropyLossFlat())
    return export_learner(learn, folder / "export.pkl").pkl


def copy_some(data: Path | None, target: Path, per_class: int) -> None:
    if data is None:
        from winnow.collect.sample import write_sample

        data = write_sample(target.parent / "sample", limit=per_class * 4).folder
    source = data / "train" if (data / "train").is_dir() else data
    folders = [path for path in sorted(source.iterdir()) if path.is_dir() and path.name[0] != "."]
    if not folders:
        raise SystemExit(f"There are no class folders in {data}: give a folder that holds some.")
    per_class = max(4, min(per_class, MOST_PHOTOS // max(1, len(folders))))
    for folder in folders:
        photos = (small for file in find_images(folder) if (small := shrunk(file)))
        for number, jpeg in enumerate(itertools.islice(photos, per_class)):
            (target / folder.name).mkdir(parents=True, exist_ok=True)
            (target / folder.name / f"{number:03}.jpg").write_bytes(jpeg)


def shrunk(file: Path) -> bytes | None:
    """The photo as a small one that a visitor may send; None if it can't be opened."""
    try:
        return thumbnail(file, side=SMALL)
    except BadImage:
        return None


def make_photos(folder: Path, count: int) -> tuple[list[Path], list[Path]]:
    """Small photos as they are, and the same ones as a 12-megapixel camera would have written them."""
    small = sorted((folder / "classes").glob("*/*"))
    small = small[:: max(1, len(small) // count)][:count]
    (folder / "big").mkdir()
    large = []
    for number, path in enumerate(small):
        grain = np.random.default_rng(number).normal(0, 6, (3000, 4000, 1))
        pixels = np.asarray(Image.open(path).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC))
        large.append(folder / "big" / f"{number}.jpg")
        Image.fromarray(np.clip(pixels + grain, 0, 255).astype("uint8")).save(large[-1], quality=90)
    return small, large


def make_hostile(folder: Path, photo: Path) -> list[Path]:
    folder.mkdir()
    content, picture = photo.read_bytes(), Image.open(photo).convert("RGB")
    files: dict[str, bytes] = {
        "empty.jpg": b"",
        "truncated.jpg": content[: len(content) // 2],
        "zeroed.jpg": content[:200] + bytes(2000) + content[2200:],
        "text.png": b"I am no photo",
        "page.html.jpg": b"<html><script>alert(1)</script></html>",
        "<img src=x onerror=alert(1)>.jpg": content[:300],
        "script.svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>alert(1)</script></svg>",
        "program.exe": b"MZ" + bytes(5000),
        "random.webp": np.random.default_rng(0).bytes(30_000),
        "heic.heic": b"\x00\x00\x00\x18ftypheic" + bytes(3000),
    }
    for name, image in {
        "bomb.png": Image.new("1", (20_000, 20_000)),
        "wide.png": picture.resize((10_000, 3)),
        "tall.jpg": picture.resize((2, 10_000)),
        "point.gif": Image.new("P", (1, 1)),
    }.items():
        image.save(buffer := io.BytesIO(), name.rpartition(".")[2].replace("jpg", "jpeg"))
        files[name] = buffer.getvalue()
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(10_000_000))
    files["archive.zip"] = files["archive.zip.jpg"] = buffer.getvalue()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with (folder / "huge.jpg").open("wb") as huge:
        huge.truncate(300 * 2**20)
    return sorted(folder.iterdir())
