"""OpenCV, loaded when it is first needed: the light rooms do without it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class NeedsOpenCV(ImportError):
    """OpenCV comes with the `collect` extra; the light core has none."""


def __getattr__(name: str) -> Any:
    try:
        return getattr(import_module("cv2"), name)
    except ModuleNotFoundError as error:
        raise NeedsOpenCV("Comparing pictures needs OpenCV: pip install 'winnow-images[collect]'.") from error
