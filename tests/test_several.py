"""Two processes that `accelerate launch` starts train one model together, on a CPU through gloo."""

import json
import os
import subprocess
import sys

import pytest

from winnow.catalog import Catalog
from winnow.collect.sample import write_sample
from winnow.learn.several import count_processes, is_main

TRAIN = """
import hashlib, json, os, sys
from pathlib import Path
from winnow.catalog import Catalog
from winnow.learn.callbacks import LossWatch
from winnow.learn.training import train

taken, step = [], LossWatch.after_step
LossWatch.after_step = lambda self: (step(self), taken.append(1))
learn = train(Catalog(sys.argv[1]), epochs=1, size=48, batch_size=8)
weights = b"".join(tensor.numpy().tobytes() for tensor in learn.model.state_dict().values())
about = {
    "digest": hashlib.sha256(weights).hexdigest(), "steps": len(taken),
    "macro_f1": learn.outcome.after.macro_f1, "train": len(learn.dls.train_ds),
}
Path(f"rank{os.environ['RANK']}.json").write_text(json.dumps(about))
"""


@pytest.mark.slow
def test_two_processes_share_the_steps_and_end_with_the_same_weights_and_one_record(tmp_path):
    write_sample(tmp_path / "cells", limit=60)
    (tmp_path / "script.py").write_text(TRAIN)
    launch = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
    options = "--multi_gpu --num_processes=2 --num_machines=1 --mixed_precision=no --dynamo_backend=no"
    done = subprocess.run(
        [*launch, *options.split(), "script.py", "cells"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["steps"] == first["train"] // 8 // 2  # half of the batches each
    assert [run.kind for run in Catalog(tmp_path / "cells").runs()].count("fine_tune") == 1


def test_without_a_launcher_there_is_one_process_and_it_is_the_main_one(monkeypatch):
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    assert count_processes() == 1 and is_main()
