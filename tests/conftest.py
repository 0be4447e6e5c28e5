"""What several test files share: a few real photos, and one tiny real learner, trained and exported once a session."""

import os
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from pictures import write_photos

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    # a shell's background: servers that tests start would inherit a deaf ear for Ctrl+C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cell_photos(tmp_path_factory) -> Path:
    """A folder of class folders: 60 functional and 60 defective solar cells of `elpv-dataset`."""
    import elpv_dataset

    source = Path(elpv_dataset.__file__).parent / "data"
    folder = tmp_path_factory.mktemp("cells")
    wanted = {"0.0": "functional", "1.0": "defective"}
    for line in (source / "labels.csv").read_text().splitlines():
        name, probability, _ = line.split()
        label = next((v for k, v in wanted.items() if float(k) == float(probability)), None)
        if label and len(list((folder / label).glob("*.png"))) < 60:
            (folder / label).mkdir(exist_ok=True)
            shutil.copy(source / name, folder / label)
    return folder


@pytest.fixture(scope="session")
def tiny_learner(cell_photos):
    """A fastai learner on those photos (96 px): a frozen pretrained body, and a linear head from the probe."""
    import torch
    from fastai.vision.all import CrossEntropyLossFlat, ImageDataLoaders, Learner, Normalize, Resize, accuracy

    from winnow.learn.probe import fit_probe

    dls = ImageDataLoaders.from_folder(
        cell_photos, valid_pct=0.25, seed=1, item_tfms=Resize(96, method="squish"), bs=16, num_workers=0,
        batch_tfms=Normalize.from_stats([0.5] * 3, [0.5] * 3, cuda=False),
    )  # fmt: skip
    body, head = _body(), torch.nn.Linear(1280, 2)
    with torch.inference_mode():
        batches = [(body(x).mean((2, 3)), y) for x, y in dls.train.new(shuffle=False, drop_last=False)]
    probe = fit_probe(
        torch.cat([x for x, _ in batches]).numpy(), torch.cat([y for _, y in batches]).numpy(), n_classes=2
    )
    with torch.no_grad():
        head.weight.copy_(torch.tensor(probe.weight))
        head.bias.copy_(torch.tensor(probe.bias))
    pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)
    return Learner(dls, torch.nn.Sequential(body, pooled), loss_func=CrossEntropyLossFlat(), metrics=accuracy)


def _body():
    from fastai.vision.learner import TimmBody

    from winnow.learn.backbones import make_backbone

    return TimmBody(make_backbone("tf_efficientnet_lite0", size=96)).eval()


@pytest.fixture(scope="session")
def trained_export(tiny_learner, tmp_path_factory) -> Path:
    """The path of an `export.pkl` with its `export.onnx` beside it."""
    from winnow.share.export import export_learner

    return export_learner(tiny_learner, tmp_path_factory.mktemp("export") / "export.pkl").pkl


@pytest.fixture
def own_export(trained_export, tmp_path) -> SimpleNamespace:
    """A copy of the export that a test may damage."""
    pkl = Path(shutil.copy(trained_export, tmp_path / "export.pkl"))
    return SimpleNamespace(
        pkl=pkl, onnx=Path(shutil.copy(trained_export.with_suffix(".onnx"), tmp_path / "export.onnx"))
    )


@pytest.fixture(scope="session")
def ray_cluster():
    """The address of a real Ray cluster: two nodes of one core each, on this machine's loopback."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray then keeps to 127.0.0.1 on Linux as well
    import ray
    from ray.cluster_utils import Cluster

    import winnow.cluster  # noqa: F401 (its settings hold before Ray's first use)

    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}
    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node})
    cluster.add_node(**node)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def photo_folder(tmp_path) -> Path:
    """A folder of class folders: three classes of eight small, different pictures each."""
    return write_photos(tmp_path / "photos", {"ant": 8, "bee": 8, "cat": 8})
