"""Frozen features: right, kept, and safe with several processes and a kill -9."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from winnow.catalog import Catalog
from winnow.images import resize, sha256_of
from winnow.learn import backbones, pixels
from winnow.learn.features import extract_features, features_of_pixels
from winnow.learn.pixels import cached_pixels, read_pixels
from winnow.learn.store import RowStore, let_go

SIZE = 64


@pytest.fixture(scope="module")
def files(cell_photos):
    return sorted(cell_photos.rglob("*.png"))[:20]


def run_python(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], **options)


def test_importing_features_and_probe_loads_neither_torch_nor_fastai():
    code = (
        "import sys, winnow.learn.features, winnow.learn.probe; print({'torch', 'fastai'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize("backbone", backbones.BACKBONES)
def test_packaged_weights_sit_in_the_right_tensors(backbone):
    import timm
    import torch

    photo = load_sample_images().images[0]  # a Chinese palace
    model = timm.create_model(backbone, pretrained=False).eval()
    model.load_state_dict(backbones._packaged_weights(backbone, model.state_dict()))
    pixels = torch.tensor(photo[:, 100:527]).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.inference_mode():
        best = model(torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear")).topk(5).indices[0]
    assert {698, 663, 832, 538} & set(best.tolist())  # ImageNet's palace, monastery, stupa, dome


def test_onnx_runtime_gives_what_torch_gives(files):
    import torch

    pixels = np.stack([read_pixels(file, SIZE) for file in files[:3]])
    model = backbones.make_backbone("tf_efficientnet_lite0", size=SIZE)
    with torch.inference_mode():
        torches = model(torch.tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1).numpy()
    assert np.abs(features_of_pixels(pixels) - torches).max() < 1e-3


def test_rows_come_in_the_order_of_the_files_and_equal_photos_share_one(files):
    ours = extract_features(files[:4], size=SIZE)
    turned = extract_features([files[2], files[0], files[2]], size=SIZE)
    assert ours.shape == (4, 1280) and ours.dtype == np.float32
    assert np.allclose(turned, ours[[2, 0, 2]], atol=1e-4)


def test_a_photo_is_computed_once_and_then_only_read(files, tmp_path, monkeypatch):
    first = extract_features(files[:6], size=SIZE, cache=tmp_path)
    monkeypatch.setenv("WINNOW_CACHE", str(files[0]))  # a file: no network could be loaded from there
    assert np.array_equal(extract_features(files[:6], size=SIZE, cache=tmp_path), first)
    with pytest.raises(OSError):
        extract_features(files[:7], size=SIZE, cache=tmp_path)


def test_only_what_is_new_is_counted_as_work(files, tmp_path):
    extract_features(files[:16], size=SIZE, cache=tmp_path)
    seen = []
    extract_features(
        files, size=SIZE, cache=tmp_path, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(20, 20)]


def test_a_catalog_keeps_features_in_its_own_cache_and_follows_a_relabelled_photo(files, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
    for number, file in enumerate(files[:8]):
        (tmp_path / "ab"[number % 2] / file.name).write_bytes(file.read_bytes())
    catalog = Catalog(tmp_path)
    before = dict(
        zip([p.sha256 for p in catalog.photos()], extract_features(catalog, size=SIZE), strict=True)
    )
    catalog.relabel(catalog.photos()[0].path, "b")
    catalog.apply()
    after = dict(zip([p.sha256 for p in catalog.photos()], extract_features(catalog, size=SIZE), strict=True))
    assert before.keys() == after.keys() and all(np.array_equal(before[sha], after[sha]) for sha in before)
    assert (catalog.cache / "features").is_dir()


def test_some_of_a_catalogs_photos_give_their_rows_in_the_order_asked(files, tmp_path):
    for file in files[:4]:
        (tmp_path / "a").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "a")
    catalog = Catalog(tmp_path)
    photos = catalog.photos()
    some = extract_features(catalog, photos=[photos[2], photos[0]], size=SIZE)
    assert np.array_equal(some, extract_features(catalog, size=SIZE)[[2, 0]])


def test_methods_and_sizes_are_kept_apart(files, tmp_path):
    squish = extract_features(files[:2], size=SIZE, cache=tmp_path)
    larger = extract_features(files[:2], size=96, cache=tmp_path)
    assert not np.allclose(squish, larger, atol=1e-2)


def test_cached_pixels_are_those_of_resize(files, tmp_path):
    from winnow.images import open_image

    kept = cached_pixels({sha256_of(f): f for f in files}, size=SIZE, method="crop", cache=tmp_path)
    for file in files:
        assert np.array_equal(kept[sha256_of(file)], np.asarray(resize(open_image(file), SIZE, "crop")))


def test_several_sizes_come_from_one_decoding_and_a_broken_photo_stops_nobody(files, tmp_path, monkeypatch):
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:900])
    named = {sha256_of(f): f for f in [*files[:6], broken]}
    opened = []
    reading = pixels.open_image
    monkeypatch.setattr(pixels, "open_image", lambda file: opened.append(file) or reading(file))
    for _ in range(2):  # the second time only what is missing is read: the broken one
        pixels.cache_sizes(named, sizes=[32, SIZE], method="pad", cache=tmp_path)
    assert sorted(opened) == sorted([*files[:6], broken, broken])
    del named[sha256_of(broken)]
    for size in (32, SIZE):
        kept = cached_pixels(named, size=size, method="pad", cache=tmp_path)
        assert all(np.array_equal(kept[sha], read_pixels(file, size, "pad")) for sha, file in named.items())


def rows(start, count, width=50):
    return {f"{i:064x}": np.full(width, i, np.float32) for i in range(start, start + count)}


def test_a_process_killed_while_appending_leaves_whole_rows_only(tmp_path):
    code = """
import sys; import numpy as np; from pathlib import Path; from winnow.learn.store import RowStore, let_go
store = RowStore(Path(sys.argv[1]))
for i in range(10**9): store.append({f"{i:064x}": np.full(200_000, i, np.float32)})
"""
    process = run_python(code, tmp_path / "rows")
    store = RowStore(tmp_path / "rows")
    while store.size() < 3_000_000:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with store.rows.open("ab") as file:
        file.write(b"half a record")  # the kill may have hit between two writes: make sure of a torn end
    survived = len(store.read())
    store.append({"f" * 64: np.full(200_000, 7, np.float32)})
    found = store.read()
    assert len(found) == survived + 1 and (found.pop("f" * 64) == 7).all()
    assert all((row == int(sha, 16)).all() for sha, row in found.items())


def test_two_processes_may_append_at_once(tmp_path):
    code = """
import sys; import numpy as np; from pathlib import Path; from winnow.learn.store import RowStore, let_go
store, start = RowStore(Path(sys.argv[1])), int(sys.argv[2])
for i in range(start, start + 300): store.append({f"{i:064x}": np.full(50, i, np.float32)})
"""
    both = [run_python(code, tmp_path / "rows", start) for start in (0, 1000)]
    assert [process.wait() for process in both] == [0, 0]
    found = RowStore(tmp_path / "rows").read()
    assert len(found) == 600 and all((row == int(sha, 16)).all() for sha, row in found.items())


def test_a_damaged_row_is_left_out_and_the_others_stay(tmp_path):
    store = RowStore(tmp_path / "rows")
    store.append(rows(0, 5))
    data = bytearray(store.rows.read_bytes())
    data[2 * len(data) // 5 + 100] ^= 1
    store.rows.write_bytes(data)
    assert sorted(int(sha, 16) for sha in store.read()) == [0, 1, 3, 4]


def test_an_unknown_backbone_is_named_with_others_to_try():
    with pytest.raises(backbones.UnknownBackbone, match=r"tf_efficientnet_lite9.*try"):
        backbones.make_backbone("tf_efficientnet_lite9")


def test_a_hub_backbone_without_a_network_is_one_sentence_that_says_what_to_do(tmp_path):
    code = f"""
import os; os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=r"{tmp_path}")
from winnow.learn.backbones import make_backbone, WeightsUnavailable
try: make_backbone("mobilenetv3_small_050.lamb_in1k", size=64)
except WeightsUnavailable as error: print(error)
"""
    said = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", code], text=True, stderr=subprocess.DEVNULL
    )
    assert said.count("\n") == 1 and "hub" in said and "tf_efficientnet_lite0" in said


def test_a_size_that_a_backbone_cannot_read_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(backbones.UnfitBackbone, match="choose another size"):
        backbones.make_backbone("tf_efficientnet_lite0", size=0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what is mapped")
def test_mapped_rows_give_their_memory_back_and_are_read_again(tmp_path):
    def mapped_kb() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))

    store = RowStore(tmp_path / "pixels")
    store.append({f"{i:064x}": np.full(1 << 20, i, np.uint8) for i in range(64)})
    kept = store.read(copy=False)
    assert all((row == int(sha, 16)).all() for sha, row in kept.items())
    touched = mapped_kb()
    let_go(next(iter(kept.values())))
    assert touched - mapped_kb() > 60_000
    assert all((row == int(sha, 16)).all() for sha, row in kept.items())


PEAK = """
from pathlib import Path
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
"""  # kB, in a process of its own


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what is mapped")
def test_reading_a_large_cache_never_holds_all_of_it(tmp_path):
    """The most that was mapped at any time, by a process of its own: 8,192 rows of 64 kB, as much as a look maps."""
    code = (
        PEAK
        + """
import sys; import numpy as np; from pathlib import Path; from winnow.learn.store import RowStore
store = RowStore(Path(sys.argv[1]))
for i in range(0, 8192, 64):
    store.append({f"{j:064x}": np.full(1 << 16, j % 251, np.uint8) for j in range(i, i + 64)})
before = peak()
rows = store.read(copy=False)
assert len(rows) == 8192, len(rows)
print(peak() - before)
"""
    )
    said = subprocess.check_output([sys.executable, "-c", code, str(tmp_path / "rows")], text=True)
    assert int(said) < 150_000  # kB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what is mapped")
def test_batches_from_a_large_cache_never_hold_all_of_it(tmp_path):
    code = (
        PEAK
        + """
import sys; import numpy as np; from pathlib import Path
from winnow.learn.pixels import pixel_batches
from winnow.learn.resident import ResidentPhotos
from winnow.learn.store import RowStore
import torch
cache, names = Path(sys.argv[1]), [f"{i:064x}" for i in range(4096)]
store = RowStore(cache / "pixels/160-squish")
for i in range(0, 4096, 64):
    store.append({names[j]: np.full((160, 160, 3), j % 251, np.uint8) for j in range(i, i + 64)})
before = peak()
files = {name: cache / "nowhere" for name in names}
assert sum(len(batch) for batch, _ in pixel_batches(files, size=160, cache=cache)) == 4096
held = ResidentPhotos(list(store.read(copy=False).values()), [torch.zeros(4096)])
for i in range(0, 4096, 32): held.batch(range(i, i + 32), None)
print(peak() - before)
"""
    )
    said = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], text=True, stderr=subprocess.DEVNULL
    )
    assert int(said) < 150_000  # kB, of 315,000
