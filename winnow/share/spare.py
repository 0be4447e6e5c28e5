"""The page's model, handed to a visitor of the Voila app in small parts, for when the kernel is gone."""

from __future__ import annotations

import json
import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"
PART = 192 * 1024  # bytes in one message: servers drop messages above about 1 MB a second
ENGINE = ("engine", "zip", "correction_box", "helper", "engine_browser")
WORKER = ("zip", "upright", "photo_reader", "resize", "files", "worker")


class NoPage(ValueError):
    """The folder holds no page of this model; the message says what to do."""


class Spare:
    """The files of a page that `winnow page` wrote to `folder`, for a front end to keep in memory.

    `digest` is that of the export that the app answers with: a page of another model is refused (`NoPage`).
    """

    def __init__(self, folder: Path | str, *, digest: str):
        self.folder = Path(folder)
        try:
            self.site = json.loads((self.folder / "model.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise NoPage(f"{folder} holds no page: run `winnow page --out {folder}` first.") from error
        if self.site["facts"]["digest"] != digest:
            raise NoPage(f"{folder} is the page of another model: run `winnow page --out {folder}` again.")
        self.texts = {"engine.js": _joined(ENGINE, "BrowserEngine"), "worker.js": _joined(WORKER)}

    @property
    def names(self) -> list[str]:
        """What `part` can be asked for."""
        return ["model.json", *self.texts, "ort.mjs", "runtime.bin", "model.bin"]

    def part(self, name: str, offset: int) -> tuple[bytes, int]:
        """At most `PART` bytes of a file from `offset`, and the file's size."""
        if name not in self.names:
            raise NoPage(f"There is no {name} to hand out.")
        if name in self.texts:
            data = self.texts[name].encode()
            return data[offset : offset + PART], len(data)
        path = self.folder / name
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(PART), path.stat().st_size


def _joined(names: tuple[str, ...], export: str = "") -> str:
    """Modules as one text that needs no other file; `export` is what it gives away."""
    text = "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names)
    text = re.sub(r"^import .* from \"\./[\w.]+\";$\n?", "", text, flags=re.M)
    text = re.sub(r"^export (?!default)", "", text, flags=re.M)
    return text + (f"\nexport {{ {export} }};\n" if export else "")
