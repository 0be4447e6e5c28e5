"""The page's small files: scripts and styles, example photos, icons, manifest, service worker."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from html import escape
from pathlib import Path
from urllib.parse import unquote_to_bytes

from PIL import Image, ImageDraw

from winnow.images import thumbnail
from winnow.share.web_runtime import VERSION

STATIC = Path(__file__).parent / "static"
ENTRY = ("page.js", "worker.js")  # their imports come along
LEFT_OUT = {"NOTICE.txt", ".nojekyll"}  # not needed without a network
CSP = {
    "default-src": "'none'",
    "script-src": "'self' 'wasm-unsafe-eval'",
    "style-src": "'self'",
    "img-src": "'self' blob: data:",
    "media-src": "'self' blob:",
    "connect-src": "'self'",
    "worker-src": "'self'",
    "manifest-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
}
COLOURS = ("#1b6b4a", "#ffffff")  # of the icon: ground, mark
NOTICE = f"""ONNX Runtime Web {VERSION} (ort.mjs, runtime.bin): Copyright (c) Microsoft Corporation, MIT License.
Winnow (the other scripts): Apache License 2.0.
"""


def write_examples(site: Path, inside: list[dict], given: list[Path | str]) -> list[dict]:
    """Example photos as files of their own: those `given`, or those `inside` the export, which are data: URLs."""
    sources = [(Path(path).name, thumbnail(Path(path), 512)) for path in given]
    if not given:
        sources = [(e["name"], _from_data_url(e["url"])) for e in inside]
    if sources:
        (site / "examples").mkdir()
    found = []
    for i, (name, data) in enumerate(sources):
        (site / "examples" / f"{i}.jpg").write_bytes(data)
        found.append({"name": name, "url": f"examples/{i}.jpg"})
    return found


def _from_data_url(url: str) -> bytes:
    head, _, body = url.partition(",")
    return base64.b64decode(body) if head.endswith(";base64") else unquote_to_bytes(body)


def write_scripts(site: Path, title: str, knows: str) -> None:
    """The page, its modules, icons and manifest, and last the service worker, which lists all of them."""
    for name in [*modules(), "photo_app.css", "page.css"]:
        shutil.copyfile(STATIC / name, site / name)
    csp = "; ".join(map(" ".join, CSP.items()))
    preloads = "\n".join(f'<link rel="modulepreload" href="{name}">' for name in modules(["page.js"]))
    words = {"title": escape(title), "description": escape(knows or title), "csp": csp, "preloads": preloads}
    (site / "index.html").write_text(_filled("page.html", words), encoding="utf-8")
    (site / "manifest.webmanifest").write_text(json.dumps(_manifest(title, knows)), encoding="utf-8")
    for side in (192, 512):
        draw_icon(side).save(site / f"icon-{side}.png")
    (site / "NOTICE.txt").write_text(NOTICE)
    (site / ".nojekyll").touch()  # GitHub Pages: serve the files as they are
    kept = [f for f in sorted(site.rglob("*")) if f.is_file() and f.name not in LEFT_OUT]
    files = [[f.relative_to(site).as_posix(), mark_of(f.read_bytes())] for f in kept]
    (site / "sw.js").write_text(_filled("sw.js", {"files": json.dumps(files)}), encoding="utf-8")


def modules(entries: Iterable[str] = ENTRY, *, folder: Path = STATIC) -> list[str]:
    """The scripts that `entries` import from `folder`, directly or not, and they themselves."""
    found, waiting = [], list(entries)
    while waiting:
        name = waiting.pop(0)
        if name in found or not (folder / name).is_file():
            continue
        found.append(name)
        waiting += re.findall(
            r"^import .* from \"\./([\w.]+)\";$", (folder / name).read_text(encoding="utf-8"), re.M
        )
    return found


def _filled(name: str, words: dict[str, str]) -> str:
    """The template with each `%%word%%` filled in."""
    text = (STATIC / name).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(f"%%{word}%%", value)
    return text


def _manifest(title: str, knows: str) -> dict:
    """The web app manifest: what a phone needs to put the page on its home screen."""
    icons = [
        {"src": f"icon-{side}.png", "sizes": f"{side}x{side}", "type": "image/png", "purpose": "any maskable"}
        for side in (192, 512)
    ]
    return {
        "name": title,
        "short_name": title[:12].strip(),
        "description": knows,
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "background_color": "#faf9f6",
        "theme_color": COLOURS[0],
        "icons": icons,
    }


def draw_icon(side: int) -> Image.Image:
    """The icon: a winnowing fan, grain flying up from it. Drawn four times as large, then shrunk."""
    s = side * 4
    icon = Image.new("RGB", (s, s), COLOURS[0])
    pen = ImageDraw.Draw(icon)
    pen.chord((0.22 * s, 0.22 * s, 0.78 * s, 0.78 * s), 10, 170, fill=COLOURS[1])
    for x, y, r in (
        (0.36, 0.42, 0.035),
        (0.5, 0.34, 0.05),
        (0.63, 0.43, 0.03),
        (0.44, 0.24, 0.022),
        (0.6, 0.26, 0.03),
    ):
        pen.ellipse(((x - r) * s, (y - r) * s, (x + r) * s, (y + r) * s), fill=COLOURS[1])
    return icon.resize((side, side), Image.Resampling.LANCZOS)


def mark_of(data: bytes) -> str:
    """What tells two versions of a file apart."""
    return hashlib.sha256(data).hexdigest()[:16]
