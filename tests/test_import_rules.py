"""Who may import whom (the design's rule), read from the source of every module, and what stays light."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "winnow"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
# Parsed at collection: Python 3.11's parser fails where another thread (Ray's) formats a traceback meanwhile.
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
JOINING = {
    "winnow.cli",
    "winnow.demo",
    "winnow.headless",
    "winnow.notebooks",
    "winnow.page",
}  # nothing imports these
GROUND = {"winnow.images", "winnow.migrations"}
# Every other module at the top is the catalog or a part of it.
CATALOG = {name for name in MODULES if name.count(".") == 1 and MODULES[name].parent == PACKAGE}
CATALOG -= JOINING | GROUND | {name for name in MODULES if MODULES[name].name == "__init__.py"}
BASE = GROUND | CATALOG | {"winnow.catalog"}
# The longest prefix of a module's name counts.
ALLOWED = {
    "winnow": set(),
    "winnow.images": set(),
    "winnow.migrations": set(),
    **dict.fromkeys(CATALOG, BASE),
    "winnow.collect": BASE | {"winnow.collect"},
    "winnow.learn": BASE | {"winnow.learn"},
    "winnow.clean": BASE | {"winnow.clean", "winnow.learn.features", "winnow.learn.probe"},
    "winnow.share": BASE | {"winnow.share"},
    "winnow.share.export": BASE | {"winnow.share", "winnow.learn"},
    "winnow.share.facts": BASE | {"winnow.share", "winnow.learn"},  # a part of the export
    **{name: {"winnow"} for name in JOINING},
}
WIDGETS = {"winnow.clean.cleaner", "winnow.share.photo_app"}
NEEDS_FASTAI = {f"winnow.share.{part}" for part in ("export", "facts", "fastai_path", "graph", "parts")}
HEAVY = {"torch", "fastai", "timm", "sklearn", "pandas", "matplotlib", "cv2", "scipy", "ray", "onnx"}
LIGHT = [
    name
    for name in MODULES
    if name in BASE | {"winnow", "winnow.cli", "winnow.learn", "winnow.learn.features", "winnow.learn.probe"}
    or name.startswith(("winnow.clean", "winnow.share"))
    if name not in NEEDS_FASTAI
]


def imported(name: str) -> set[str]:
    """Modules of winnow that `name` imports anywhere, in functions too; `from a import b` counts as `a.b`
    where that is a module."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(name, node)
            inner = {f"{base}.{alias.name}" for alias in node.names}
            found |= (inner & set(MODULES)) or {base}
    return {module for module in found if module == "winnow" or module.startswith("winnow.")}


def _absolute(name: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    is_package = MODULES[name].name == "__init__.py"
    parts = name.split(".")[: len(name.split(".")) - node.level + is_package]
    return ".".join([*parts, node.module] if node.module else parts)


def rule_of(name: str) -> set[str]:
    prefix = name
    while prefix not in ALLOWED:
        prefix = prefix.rpartition(".")[0]
    return ALLOWED[prefix]


def is_within(module: str, allowed: set[str]) -> bool:
    """`winnow` alone holds the version; every other package allows what lies in it."""
    return module == "winnow" or any(module == a or module.startswith(a + ".") for a in allowed)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_its_room_may(name):
    forbidden = {module for module in imported(name) if not is_within(module, rule_of(name))}
    assert not forbidden, f"{name} may import {sorted(rule_of(name))}"


@pytest.mark.parametrize("name", sorted(set(MODULES) - JOINING))
def test_nothing_imports_a_widget_or_a_notebook(name):
    if MODULES[name].name != "__init__.py":  # a room may offer its widget by name
        assert not imported(name) & (WIDGETS | JOINING) - {name}


def test_the_light_rooms_load_nothing_heavy():
    """One process imports them in turn and says which brought in what."""
    program = f"""
import importlib, json, sys
offenders, seen = {{}}, set()
for name in {LIGHT}:
    importlib.import_module(name)
    new = {HEAVY!r} & set(sys.modules) - seen
    seen |= new
    if new:
        offenders[name] = sorted(new)
print(json.dumps(offenders))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {}
