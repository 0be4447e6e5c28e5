"""`winnow doctor`: what would go wrong when this app is shared, found before a visitor does, with what to do."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

SMALL_HOST_MB = 2048  # Binder, and most free hosts
SERVING = {"voila", "ipykernel", "jupyter-server-proxy"}  # what runs the app's process on Binder
GIT_LIMIT_MB = 100  # GitHub refuses larger files

# Runs in a process of its own, as an app's kernel would: what this process has imported proves nothing.
CLEAN_PROCESS = """
import base64, io, json, sys
import pillow_heif, psutil
from PIL import Image
from winnow.share.photo_app import photo_app
def uss(): return psutil.Process().memory_full_info().uss / 1e6
from winnow.share.prediction import load_predictor
predictor = load_predictor(sys.argv[1])
loaded = uss()
photos = [base64.b64decode(e["url"].partition(",")[2]) for e in predictor.facts.get("examples") or []]
examples = len(photos)
buffer = io.BytesIO()
Image.linear_gradient("L").resize((4000, 3000)).convert("RGB").save(buffer, "JPEG")
heic = io.BytesIO()
pillow_heif.from_pillow(Image.radial_gradient("L").convert("RGB")).save(heic)
answers = predictor.predict([*photos, buffer.getvalue(), heic.getvalue()])
photo_app(predictor)
json.dump({
    "labels": predictor.labels, "light": predictor.light, "examples": examples,
    "errors": [a.error for a in answers if a.error], "grew": max(0, uss() - loaded),
    "versions": predictor.facts.get("versions") or {}, "trained": predictor.facts.get("trained"),
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}, sys.stdout)
"""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `ok` None: it works, and could be better."""

    what: str
    ok: bool | None
    said: str
    fix: str = ""


def examine(
    notebook: Path | str = "app.ipynb",
    *,
    export: Path | str = "export.pkl",
    progress: Callable[[Finding], None] | None = None,
) -> list[Finding]:
    """Look at the app of `notebook` with its `export`; both lie in the folder that will be shared.

    Starts the app once, on this machine's own address. Changes nothing. `progress`: called with each finding.
    """
    notebook, export = Path(notebook).resolve(), Path(export)
    export = export if export.is_absolute() else notebook.parent / export
    findings = []
    for finding in _examine(notebook, export):
        findings.append(finding)
        if progress:
            progress(finding)
    return findings


def _examine(notebook: Path, export: Path) -> Iterator[Finding]:
    facts, finding = check_export(export)
    yield finding
    yield check_git(export)
    yield check_settings(notebook.parent)
    if facts:
        yield check_versions(facts)
        yield check_binder(notebook, facts["modules"])
    if notebook.is_file():
        yield from check_served(notebook, facts)
    else:
        yield Finding("App", False, f"There is no {notebook.name}.", "Give the path of the app's notebook.")


def check_export(export: Path) -> tuple[dict | None, Finding]:
    """Load it and predict in a clean process; what that process found, and the finding."""
    command = [sys.executable, "-c", CLEAN_PROCESS, str(export)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=export.parent if export.parent.is_dir() else None
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "the process ended"
        reason = re.sub(r"^[\w.]+: ", "", reason)
        return None, Finding("Export", False, reason, "Run train.ipynb again, or export_learner(learn).")
    facts = json.loads(done.stdout[done.stdout.index("{") :])
    said = f"{export.name} loads and answers among {len(facts['labels'])} classes"
    if facts["errors"]:
        return facts, Finding("Export", False, f"{said}, but fails: {facts['errors'][0]}", "Export it again.")
    if not facts["light"]:
        fix = "Run export_learner(learn): it writes export.onnx beside export.pkl."
        return facts, Finding("Export", False, f"{said} with fastai only: too big for a small host.", fix)
    tried = (
        f"{facts['examples']} examples and a 12-megapixel photo"
        if facts["examples"]
        else "a 12-megapixel photo"
    )
    return facts, Finding("Export", True, f"{said}; its digest fits; {tried} answered in a clean process.")


def check_git(export: Path) -> Finding:
    """Whether a clone of the repository would hold both files of the export as they are here."""
    files = [export, export.with_suffix(".onnx")]
    fix = f"git add {' '.join(file.name for file in files)} && git commit"

    def git(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(["git", *arguments], cwd=export.parent, capture_output=True, text=True)

    if not export.parent.is_dir() or git("rev-parse", "--is-inside-work-tree").returncode:
        return Finding(
            "Git", None, "This folder is no git repository: Binder needs one.", "git init, then push it."
        )
    for file in files:
        if git("ls-files", "--error-unmatch", file.name).returncode:
            return Finding(
                "Git", False, f"{file.name} is not in git: who opens the link finds no model.", fix
            )
        if git("status", "--porcelain", "--", file.name).stdout.strip():
            return Finding("Git", False, f"git holds another {file.name} than this one.", fix)
        if (size := file.stat().st_size / 1e6) > GIT_LIMIT_MB:
            return Finding(
                "Git",
                False,
                f"{file.name} has {size:.0f} MB: GitHub takes {GIT_LIMIT_MB}.",
                "Use a smaller backbone.",
            )
    return Finding("Git", True, "git holds both files of the export as they are here.")


def check_settings(folder: Path) -> Finding:
    """The locks of plain Voila, which Binder's other link and `voila app.ipynb` use."""
    try:
        settings = json.loads((folder / "voila.json").read_text(encoding="utf-8"))["VoilaConfiguration"]
    except (OSError, ValueError, KeyError):
        settings = {}
    open_doors = [
        said
        for said, closed in {
            "files can be fetched": settings.get("file_denylist") == [".*"],
            "templates can be changed": settings.get("allow_template_override") == "NO",
            "tracebacks are shown": settings.get("show_tracebacks") is False,
        }.items()
        if not closed
    ]
    if open_doors:
        fix = "Copy voila.json from Winnow's repository, or use `winnow serve`, which doesn't depend on it."
        return Finding("Plain Voila", False, f"Without `winnow serve`, {', '.join(open_doors)}.", fix)
    return Finding("Plain Voila", True, "voila.json locks files, templates and tracebacks.")


def check_versions(facts: dict) -> Finding:
    """Whether what made the export is what runs here."""
    other = []
    for name, made_with in facts["versions"].items():
        here = _version(name)
        if here and str(made_with).split(".")[:2] != here.split(".")[:2]:
            other.append(f"{name} {made_with} (here {here})")
    date = (facts.get("trained") or {}).get("date")
    trained = f"It was trained on {date}." if date else "It doesn't say when it was trained."
    if other:
        return Finding(
            "Versions",
            None,
            f"The export was made with {', '.join(other)}.",
            "Export it again if answers differ.",
        )
    return Finding("Versions", True, f"The export was made with what is installed here. {trained}")


def _version(name: str) -> str | None:
    try:
        return version({"winnow": "winnow-images"}.get(name, name))
    except Exception:
        return None


def check_binder(notebook: Path, modules: list[str]) -> Finding:
    """Whether binder/requirements.txt holds all that the app's process imports."""
    file = notebook.parent / "binder" / "requirements.txt"
    if not file.is_file():
        return Finding(
            "Binder", None, "There is no binder/requirements.txt.", "Copy binder/ from Winnow's repository."
        )
    pinned = {_plain(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()}
    wanted = (
        distributions([*modules, *imports_of(notebook)]) - {"winnow-images", "pip", "setuptools"} | SERVING
    )
    missing = sorted(wanted - pinned)
    if missing:
        return Finding(
            "Binder",
            False,
            f"binder/requirements.txt lacks {', '.join(missing)}.",
            "Add them with their version.",
        )
    heavy = sorted(pinned & {"torch", "fastai", "scipy", "tensorflow"})
    if heavy:
        return Finding(
            "Binder", None, f"binder/requirements.txt holds {', '.join(heavy)}: slow to start.", "make lock"
        )
    return Finding(
        "Binder", True, f"binder/requirements.txt holds all {len(wanted)} packages that the app imports."
    )


def distributions(modules: list[str]) -> set[str]:
    """The installed packages that these top-level modules come from."""
    owners = packages_distributions()
    return {_plain(owners[module][0]) for module in modules if module in owners}


def imports_of(notebook: Path) -> list[str]:
    """Top-level names of the modules that a notebook's cells import."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        nodes = list(ast.walk(ast.parse(code)))
    except (OSError, ValueError, KeyError, SyntaxError):
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return [name.partition(".")[0] for name in names]


def _plain(name: str) -> str:
    """A distribution's name as packaging compares it, without its version."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>~!;\[ ]", name.strip())[0]).lower()


def check_served(notebook: Path, facts: dict[str, Any] | None) -> Iterator[Finding]:
    """Start `winnow serve`, visit it once, measure it, try to fetch the folder's files."""
    from winnow.share.trial import Trial, TrialFailed

    try:
        with Trial(notebook) as trial:
            page = trial.visit()
            if "error when executing cell" in page or "kernelId" not in page:
                said, fix = (
                    "The notebook fails when it is served.",
                    f"Run {notebook.name} from top to bottom.",
                )
                yield Finding("App", False, said, fix)
            else:
                yield _memory(*trial.memory(), grew=(facts or {}).get("grew", 0.0))
            fetched = trial.fetch_files(notebook.parent)
    except TrialFailed as error:
        yield Finding("App", False, str(error), f"Run `winnow serve {notebook.name}` to see why.")
        return
    if fetched:
        yield Finding(
            "Files", False, f"A visitor can fetch {fetched[0]}.", "This is a fault of Winnow: report it."
        )
    else:
        yield Finding("Files", True, "No dataset file, notebook, export or feedback can be fetched.")


def _memory(server_mb: float, visitor_mb: float, *, grew: float) -> Finding:
    from winnow.share.kernels import fitting_visitors

    each = visitor_mb + grew
    fit = fitting_visitors(total_mb=SMALL_HOST_MB, server_mb=server_mb, visitor_mb=each)
    said = (
        f"The app opens; a visitor takes {each:.0f} MB after a photo: {fit} at a time fit {SMALL_HOST_MB} MB."
    )
    if fit < 5:
        return Finding("App", None, said, "Export with a smaller backbone or size, or use a bigger host.")
    return Finding("App", True, said)
