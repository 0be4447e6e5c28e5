"""What a committed notebook must be; `make lint` runs this over the notebooks that git would keep."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_OUTPUT = 200_000  # characters of outputs in one notebook: GitHub stops rendering big ones
MAX_DEF_LINES = 6
# A path from somebody's disk, in the words of a traceback, a repr or a printed folder.
ABSOLUTE = re.compile(r"(?<![\w:/.=])/(?:home|Users|root|tmp|work|workspace|mnt|private|var/folders)/[\w.-]+")


def check(notebook: dict) -> Iterator[str]:
    """What is wrong with one notebook (parsed JSON), a sentence each."""
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    yield from _check_cells(code)
    yield from _check_outputs(code)
    yield from _check_metadata(notebook["metadata"])
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        yield f"has {len(tagged)} cells tagged `parameters`: there must be exactly one"


def _check_cells(code: list[dict]) -> Iterator[str]:
    for number, cell in enumerate(code, 1):
        if cell.get("execution_count") is not None:
            yield f"code cell {number} keeps its execution count: run make format"
        for name, lines in _long_functions("".join(cell["source"])):
            yield f"code cell {number} defines {name}() in {lines} lines: put it into the package"


def _long_functions(source: str) -> Iterator[tuple[str, int]]:
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    for node in ast.walk(ast.parse(plain)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_DEF_LINES:
                yield node.name, lines


def _check_outputs(code: list[dict]) -> Iterator[str]:
    size = sum(len(json.dumps(cell["outputs"])) for cell in code)
    if size > MAX_OUTPUT:
        yield f"has outputs of {size // 1000} kB: {MAX_OUTPUT // 1000} kB at most"
    for number, cell in enumerate(code, 1):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"code cell {number} shows an error ({output['ename']})"
            if output.get("execution_count") is not None:
                yield f"an output of code cell {number} keeps its execution count: run make format"
            if found := ABSOLUTE.search(_text(output)):
                yield f"an output of code cell {number} holds a path of one machine: {found.group()}"


def _text(output: dict) -> str:
    """Everything in an output that a person reads: streams and text of every kind, no pictures."""
    shown = {kind: data for kind, data in output.get("data", {}).items() if not kind.startswith("image/")}
    pieces = [output.get("text", ""), *output.get("traceback", []), *shown.values()]
    return "\n".join("".join(piece) if isinstance(piece, list) else str(piece) for piece in pieces)


def _check_metadata(metadata: dict) -> Iterator[str]:
    kernel = metadata.get("kernelspec", {}).get("name")
    if kernel != "python3":
        yield f"asks for the kernel {kernel!r}: only python3 exists everywhere"
    if "widgets" in metadata:
        yield "keeps the state of widgets: clear it"


def clean(notebook: dict) -> dict:
    """Drop execution counts and widget state in place: what running a notebook leaves and nobody reads."""
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
            cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k in ("tags", "jupyter")}
            for output in cell["outputs"]:
                if "execution_count" in output:
                    output["execution_count"] = None
    return notebook


def notebooks() -> list[Path]:
    """Notebooks that git holds or would hold: ignored folders (runs/, .venv) don't count."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.ipynb"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:  # an unpacked archive has no git
        return sorted(ROOT.glob("*.ipynb"))
    return sorted(path for line in listed.stdout.split("\n") if line and (path := ROOT / line).exists())


def main(arguments: list[str]) -> int:
    paths = notebooks()
    if not paths:
        print("There is no notebook to check: Winnow has three at its top level.")
        return 1
    faults = []
    for path in paths:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if "--fix" in arguments:
            path.write_text(
                json.dumps(clean(notebook), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        faults += [f"{path.relative_to(ROOT)} {fault}" for fault in check(notebook)]
    print("\n".join(faults) or f"{len(paths)} notebooks are clean.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
