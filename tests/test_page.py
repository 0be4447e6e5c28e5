"""What `winnow page` writes, what it refuses, and what it leaves alone."""

import base64
import io
import json
import re
import stat
import sys
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image
from typer.testing import CliRunner

from winnow.cli import app
from winnow.images import resize
from winnow.share import web_runtime
from winnow.share.page import PageError, write_page
from winnow.share.page_files import modules, write_examples
from winnow.share.prediction import MismatchedExport, MissingExport, OnnxModel, calibrate
from winnow.share.web_model import pack_model
from winnow.share.web_runtime import RuntimeUnavailable, fetch_runtime


@pytest.fixture(scope="module")
def site(trained_export, cell_photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "site"
    write_page(
        trained_export, folder, title="Is <this> cell fine?", examples=sorted(cell_photos.rglob("*.png"))[:2]
    )
    return folder


def test_the_command_writes_a_page_and_says_how_to_look_at_it(own_export, tmp_path):
    out = tmp_path / "site"
    done = CliRunner().invoke(app, ["page", str(own_export.pkl), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "http.server" in done.output and (out / "index.html").is_file()


def test_a_first_visit_stays_under_fifteen_megabytes(site):
    assert sum(f.stat().st_size for f in site.rglob("*") if f.is_file()) < 15e6


def test_nothing_in_the_folder_points_to_another_host(site):
    texts = [f for f in site.rglob("*") if f.suffix in (".html", ".css", ".js", ".json", ".webmanifest")]
    assert len(texts) > 10
    for file in texts:
        assert not re.search(r"https?://|[\"'(]//", file.read_text(encoding="utf-8")), file.name


def test_the_policy_allows_this_origin_and_wasm_and_no_eval(site):
    policy = re.search(
        r'Content-Security-Policy" content="([^"]+)"', (site / "index.html").read_text()
    ).group(1)
    assert "default-src 'none'" in policy and "'wasm-unsafe-eval'" in policy
    assert "'unsafe-eval'" not in policy and "unsafe-inline" not in policy and "*" not in policy


def test_a_title_with_markup_stays_text(site):
    html = (site / "index.html").read_text(encoding="utf-8")
    assert "<title>Is &lt;this&gt; cell fine?</title>" in html and "<this>" not in html


def test_every_word_of_the_templates_is_filled_in(site):
    for name in ("index.html", "sw.js"):
        assert "%%" not in (site / name).read_text(encoding="utf-8")
    assert '<link rel="modulepreload" href="engine_browser.js">' in (site / "index.html").read_text()


def test_the_service_worker_keeps_every_file_under_its_contents_mark(site):
    files = dict(json.loads(re.search(r"const FILES = (\[.*\]);", (site / "sw.js").read_text()).group(1)))
    wanted = {f.relative_to(site).as_posix() for f in site.rglob("*") if f.is_file()}
    assert set(files) == wanted - {"sw.js", "NOTICE.txt", ".nojekyll"}
    facts = json.loads((site / "model.json").read_text())
    assert files["model.bin"] == facts["model"]["mark"] and files["runtime.bin"] == facts["runtime"]["mark"]


def test_every_script_that_is_imported_is_there(site):
    for script in site.glob("*.js"):
        for name in re.findall(r'^import .*"\./([\w.]+)"', script.read_text(encoding="utf-8"), re.M):
            assert (site / name).is_file(), f"{script.name} imports {name}"


def test_entries_that_import_each_other_are_listed_once(tmp_path):
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\n')
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\nimport * as c from "./made_later.mjs";\n')
    assert modules(["a.js"], folder=tmp_path) == ["a.js", "b.js"]


def test_the_manifest_has_what_a_home_screen_needs(site):
    manifest = json.loads((site / "manifest.webmanifest").read_text())
    assert manifest["display"] == "standalone" and manifest["start_url"] == "./"
    for icon in manifest["icons"]:
        side = int(icon["sizes"].split("x")[0])
        assert Image.open(site / icon["src"]).size == (side, side)


def test_examples_inside_the_export_become_files(tmp_path):
    inside = [{"name": "a.jpg", "url": "data:image/jpeg;base64," + base64.b64encode(b"jpeg").decode()}]
    assert write_examples(tmp_path, inside, []) == [{"name": "a.jpg", "url": "examples/0.jpg"}]
    assert (tmp_path / "examples" / "0.jpg").read_bytes() == b"jpeg"


def test_half_precision_halves_the_model_and_hardly_moves_a_probability(trained_export, cell_photos):
    onnx = trained_export.with_suffix(".onnx")
    half, full = pack_model(onnx), pack_model(onnx, weights="float32")
    assert len(half) < 0.55 * len(full)
    model = OnnxModel(onnx)
    target = model.facts["targets"][0]
    for photo in sorted(cell_photos.rglob("*.png"))[::10]:
        image = Image.open(photo).convert("RGB")
        pixels = np.asarray(resize(image, model.facts["size"], model.facts["method"]))[None]
        wanted = calibrate(model.run([image]).logits, target)
        for packed, within in ((half, 0.02), (full, 1e-4)):
            logits = ort.InferenceSession(packed).run(["logits"], {"pixels": pixels})[0]
            assert np.abs(calibrate(logits, target) - wanted).max() < within


def test_a_folder_with_other_files_is_refused_and_left_alone(own_export, tmp_path):
    out = tmp_path / "holiday"
    out.mkdir()
    (out / "beach.jpg").write_bytes(b"sand")
    with pytest.raises(PageError, match="holds something else"):
        write_page(own_export.pkl, out)
    assert [f.name for f in out.iterdir()] == ["beach.jpg"]


def test_an_earlier_page_is_replaced_whole(own_export, tmp_path):
    out = tmp_path / "site"
    write_page(own_export.pkl, out)
    (out / "left_over.js").write_text("old")
    write_page(own_export.pkl, out, title="Again")
    assert not (out / "left_over.js").exists() and "Again" in (out / "index.html").read_text()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["export.onnx", "export.pkl", "site"]


def test_an_earlier_page_survives_a_failed_attempt(own_export, tmp_path):
    out = tmp_path / "site"
    write_page(own_export.pkl, out, title="Standing")
    bad = tmp_path / "no_photo.jpg"
    bad.write_text("words")
    with pytest.raises(ValueError, match="not an image"):
        write_page(own_export.pkl, out, examples=[bad])
    assert "Standing" in (out / "index.html").read_text()
    assert not list(tmp_path.glob(".page-*"))


def test_an_export_without_its_onnx_or_with_another_gets_a_sentence(own_export, tmp_path):
    own_export.pkl.write_bytes(own_export.pkl.read_bytes() + b"changed")
    with pytest.raises(MismatchedExport, match="once more"):
        write_page(own_export.pkl, tmp_path / "site")
    own_export.onnx.unlink()
    with pytest.raises(MissingExport):
        write_page(own_export.pkl, tmp_path / "site")
    assert not (tmp_path / "site").exists()


# ---- the runtime ---------------------------------------------------------------------------------


def put_npm(folder: Path, script: str) -> None:
    """An `npm` that runs `script` with its arguments in `argv`."""
    npm = folder / "npm"
    npm.write_text(f"#!{sys.executable}\nimport sys; argv = sys.argv[1:]\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)


def test_the_runtime_is_fetched_once(tmp_path, monkeypatch):
    for path in fetch_runtime().values():
        assert path.parent.name == f"onnxruntime-web-{web_runtime.VERSION}" and path.stat().st_size > 10_000
    put_npm(tmp_path, "sys.exit('npm error: it was asked again')")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert fetch_runtime()["ort.wasm"].read_bytes()[:4] == b"\0asm"


def test_a_damaged_copy_in_the_cache_is_not_used(tmp_path, monkeypatch):
    folder = tmp_path / f"onnxruntime-web-{web_runtime.VERSION}"
    folder.mkdir()
    for name in web_runtime.FILES:
        (folder / name).write_bytes(b"cut off")
        (folder / f"{name}.sha256").write_text("another digest")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeUnavailable, match=r"install Node\.js"):
        fetch_runtime(tmp_path)


def test_a_package_that_is_not_the_pinned_one_is_refused(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in web_runtime.FILES.values():
            info = tarfile.TarInfo(member)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
    (tmp_path / "evil.tgz").write_bytes(buffer.getvalue())
    put_npm(
        tmp_path,
        f"import shutil; shutil.copy({str(tmp_path / 'evil.tgz')!r}, argv[argv.index('--pack-destination') + 1])",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeUnavailable, match="not the package"):
        fetch_runtime(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("ort.*"))


def test_npm_without_a_network_gets_a_sentence_with_its_reason(tmp_path, monkeypatch):
    put_npm(tmp_path, "sys.exit('npm error network ENOTFOUND')")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeUnavailable, match=r"ENOTFOUND\): go online"):
        fetch_runtime(tmp_path / "cache")
