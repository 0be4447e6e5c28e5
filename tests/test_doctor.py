"""`winnow doctor` finds each fault that would spoil a shared app, says what to do, and changes nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from winnow.share.doctor import (
    check_binder,
    check_export,
    check_git,
    check_settings,
    check_versions,
    distributions,
    examine,
    imports_of,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(own_export):
    """What is shared: app, export, settings and Binder's requirements, all in git."""
    folder = own_export.pkl.parent
    shutil.copy(ROOT / "app.ipynb", folder)
    shutil.copy(ROOT / "voila.json", folder)
    shutil.copytree(ROOT / "binder", folder / "binder")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "all")
    return folder


def git(folder, *arguments):
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def snapshot(folder):
    return {
        path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts
    }


def test_a_sound_app_has_nothing_to_fix_and_stays_as_it_was(folder):
    before, shown = snapshot(folder), []
    findings = examine(folder / "app.ipynb", progress=shown.append)
    assert [finding for finding in findings if finding.ok is False] == []
    assert {finding.what for finding in findings} == {
        *("Export", "Git", "Plain Voila", "Versions", "Binder", "App", "Files")
    }
    assert shown == findings
    assert snapshot(folder) == before


def test_a_missing_export_is_named_with_what_to_do(folder):
    (folder / "export.pkl").unlink()
    facts, finding = check_export(folder / "export.pkl")
    assert facts is None and finding.ok is False
    assert "export.pkl" in finding.said and "Traceback" not in finding.said and "train.ipynb" in finding.fix


def test_an_export_pkl_of_another_training_is_found(folder):
    with (folder / "export.pkl").open("ab") as file:
        file.write(b"another training")
    _, finding = check_export(folder / "export.pkl")
    assert finding.ok is False


def test_a_sound_export_tells_what_the_apps_process_loads(folder):
    facts, finding = check_export(folder / "export.pkl")
    assert finding.ok is True and facts["light"]
    assert not {"torch", "fastai"} & set(facts["modules"]) and {"onnxruntime", "pillow_heif"} <= set(
        facts["modules"]
    )


def test_an_export_that_git_does_not_hold_as_it_is_would_be_missing_from_the_link(folder):
    export = folder / "export.pkl"
    assert check_git(export).ok is True
    export.write_bytes(b"newer")
    assert "another export.pkl" in check_git(export).said
    git(folder, "rm", "-q", "--cached", "export.onnx", "export.pkl")
    finding = check_git(export)
    assert finding.ok is False and "not in git" in finding.said and finding.fix.startswith("git add")
    shutil.rmtree(folder / ".git")
    assert check_git(export).ok is None


def test_open_doors_of_plain_voila_are_named(folder):
    assert check_settings(folder).ok is True
    settings = json.loads((folder / "voila.json").read_text())
    settings["VoilaConfiguration"]["file_denylist"] = []
    (folder / "voila.json").write_text(json.dumps(settings))
    assert "files can be fetched" in check_settings(folder).said
    (folder / "voila.json").unlink()
    finding = check_settings(folder)
    assert finding.ok is False and "tracebacks are shown" in finding.said


def test_an_import_that_binder_lacks_is_named(folder):
    notebook = folder / "app.ipynb"
    assert check_binder(notebook, ["onnxruntime", "numpy"]).ok is True
    text = json.loads(notebook.read_text())
    text["cells"][-1]["source"] = ["import json, sklearn.metrics\n", "from winnow.share import photo_app\n"]
    notebook.write_text(json.dumps(text))
    assert imports_of(notebook) == ["json", "sklearn", "winnow"]
    finding = check_binder(notebook, [])
    assert finding.ok is False and "lacks scikit-learn." in finding.said
    requirements = folder / "binder" / "requirements.txt"
    lines = [line for line in requirements.read_text().splitlines() if not line.startswith("ipykernel==")]
    requirements.write_text("\n".join(lines))
    assert "ipykernel" in check_binder(notebook, []).said


def test_binders_own_requirements_hold_the_app_and_nothing_heavy():
    """The committed file, against what importing the app really loads."""
    program = "import sys, winnow.share.photo_app; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    finding = check_binder(ROOT / "app.ipynb", loaded.stdout.split())
    assert finding.ok is True, finding
    assert {"numpy", "pillow", "ipywidgets"} <= distributions(loaded.stdout.split())


def test_an_export_made_with_other_versions_is_a_note_and_no_fault():
    facts = {"versions": {"numpy": "0.9.1"}, "trained": None}
    finding = check_versions(facts)
    assert finding.ok is None and "numpy 0.9.1" in finding.said


def test_the_command_ends_with_1_when_something_must_be_fixed(folder):
    (folder / "export.pkl").unlink()
    (folder / "export.onnx").unlink()
    command = [sys.executable, "-m", "winnow.cli", "doctor", str(folder / "app.ipynb")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "FIX   Export: There is no" in done.stdout and "Traceback" not in done.stdout + done.stderr
