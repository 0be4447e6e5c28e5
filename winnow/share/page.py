"""The app as a folder of static files: the model runs in the visitor's browser, any free host serves it."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image

from winnow.images import MAX_PIXELS, open_image, resize
from winnow.share.page_files import mark_of, write_examples, write_scripts
from winnow.share.prediction import OnnxModel, Predictor, calibrate, load_predictor
from winnow.share.web_model import pack_model
from winnow.share.web_runtime import fetch_runtime

PRIVACY = "Photos stay on this device: the model runs in your browser, and nothing is sent anywhere."


class PageError(Exception):
    """The page can't be written; the message says what to do."""


@dataclass(frozen=True)
class Page:
    """What `write_page` wrote: the folder, the bytes a first visit transfers, and what rounding the weights changed."""

    folder: Path
    transfer: int
    drift: float  # largest difference of a probability, against the unrounded model

    def __str__(self) -> str:
        return (
            f"{self.folder}/ is ready for any static host: {self.transfer / 1e6:.1f} MB on the first visit, "
            f"probabilities within {self.drift:.4f} of the export's. Try it: python -m http.server -d {self.folder}"
        )


def write_page(
    export: Path | str = "export.pkl",
    out: Path | str = "site",
    *,
    title: str = "What is on this photo?",  # heading, and name on the home screen
    examples: Iterable[Path | str] = (),  # photos to try; default: those inside the export
    weights: str = "float16",  # or "float32": twice the size, no rounding
) -> Page:
    """Write the app for `export` as static files to the folder `out`.

    A folder that an earlier call wrote is replaced as a whole at the end; any other that holds files is left alone.
    Raises `PageError`, `RuntimeUnavailable` or the predictor's `ExportError`, each with one sentence.
    """
    export, out = Path(export), Path(out)
    _check_free(out)
    predictor = load_predictor(export, light=True)
    packed = pack_model(export.with_suffix(".onnx"), weights=weights)
    runtime = fetch_runtime()
    work = Path(mkdtemp(dir=_made(out.parent), prefix=".page-"))
    try:
        photos = write_examples(work, predictor.facts.get("examples") or [], list(examples))
        _write_large_files(work, packed, runtime)
        _write_model_facts(work, predictor, photos, title)
        write_scripts(work, title, predictor.facts.get("knows", ""))
        drift = _drift(predictor.model, packed, [work / e["url"] for e in photos])
        _swap(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return Page(out, sum(f.stat().st_size for f in out.rglob("*") if f.is_file()), drift)


def _check_free(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / "model.json").is_file()):
        raise PageError(f"{out} holds something else than an earlier page: give --out another folder.")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except OSError as error:
        raise PageError(f"{folder} can't be made ({error.strerror}): give --out another folder.") from error


def _swap(work: Path, out: Path) -> None:
    """Put `work` in the place of `out`, which exists without it for a moment only."""
    work.chmod(0o755)  # mkdtemp makes folders that a web server may not read
    old = Path(mkdtemp(dir=out.parent, prefix=".page-"))
    if out.exists():
        out.rename(old / "old")
    work.rename(out)
    shutil.rmtree(old)


# ---- the model -----------------------------------------------------------------------------------


def _write_large_files(site: Path, packed: bytes, runtime: dict[str, Path]) -> None:
    """Both large files, compressed here because not every host does; the page unpacks them itself."""
    (site / "runtime.bin").write_bytes(gzip.compress(runtime["ort.wasm"].read_bytes(), 9, mtime=0))
    (site / "model.bin").write_bytes(gzip.compress(packed, 9, mtime=0))
    shutil.copyfile(runtime["ort.mjs"], site / "ort.mjs")


def _write_model_facts(site: Path, predictor: Predictor, examples: list[dict], title: str) -> None:
    """model.json: what the engine has to know, and what the app may say before the first photo."""
    facts = {k: predictor.facts.get(k) for k in ("digest", "size", "method", "targets", "cells", "unlike")}
    info = {
        "labels": predictor.labels,
        "targets": predictor.targets,
        "knows": predictor.facts.get("knows", ""),
        "privacy": PRIVACY,
        "digest": predictor.digest[:12],
        "version": predictor.facts.get("versions", {}).get("winnow", ""),
        "feedback": True,
        "heatmap": bool(facts["cells"]),
        "examples": examples,
    }
    site_facts = {
        "facts": {**facts, "maxPixels": MAX_PIXELS, "tallFirst": pillow_takes_tall_first()},
        "info": info,
        "options": {"title": title},
        "runtime": _file(site, "runtime.bin"),
        "model": _file(site, "model.bin"),
    }
    (site / "model.json").write_text(json.dumps(site_facts, ensure_ascii=False), encoding="utf-8")


def _file(site: Path, name: str) -> dict:
    data = (site / name).read_bytes()
    return {"path": name, "mark": mark_of(data), "bytes": len(data)}


def pillow_takes_tall_first() -> bool:
    """Whether this Pillow shrinks a tall picture's height before its width (it does since version 13)."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 60, 3), dtype=np.uint8))
    both, height = (
        noise.resize((40, 40), Image.Resampling.BILINEAR),
        noise.resize((60, 40), Image.Resampling.BILINEAR),
    )
    return both.tobytes() == height.resize((40, 40), Image.Resampling.BILINEAR).tobytes()


def _drift(model: OnnxModel, packed: bytes, photos: list[Path]) -> float:
    """The largest difference of a probability between the export and the packed model, on `photos` or patterns."""
    import onnxruntime as ort

    images = [open_image(photo) for photo in photos] or _patterns()
    session = ort.InferenceSession(packed, providers=["CPUExecutionProvider"])
    target = model.facts["targets"][0]
    k = len(target["labels"])
    worst = 0.0
    for image in images:
        pixels = np.asarray(resize(image, model.facts["size"], model.facts["method"]))[None]
        logits = session.run(["logits"], {"pixels": pixels})[0]
        difference = calibrate(logits[:, :k], target) - calibrate(model.run([image]).logits[:, :k], target)
        worst = max(worst, float(np.abs(difference).max()))
    return worst


def _patterns(count: int = 8) -> list[Image.Image]:
    """Smooth coloured noise: no photos, but something for every filter."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(s).resize((256, 256), Image.Resampling.BICUBIC) for s in small]
