"""Ray, where a job is too much for one machine: connecting to a cluster, and what to say when it isn't there."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

# Ray's progress bars would put another `print` into `builtins`, and a learner, which holds the old one, can't be
# pickled then.
os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")

SEGMENT = 50_000  # rows that Ray Data gets at a time: what is held at once, here and in its object store


class NoRay(ImportError):
    """Ray was asked for and is not installed: it is in the extra `scale`."""


class NoCluster(ConnectionError):
    """No Ray cluster answered at the address."""


def connect_ray(address: str = "local"):
    """The `ray` module, connected: "local" starts Ray on this machine, "auto" or "host:port" joins a cluster.

    A connection that is there already is kept. Raises `NoRay` or `NoCluster`.
    """
    try:
        import ray
    except ImportError as error:
        raise NoRay(
            "Ray is not installed: pip install 'winnow-images[scale]', or run without a cluster."
        ) from error
    if not ray.is_initialized():
        try:
            _knock(address)
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **_options(address))
        except (OSError, ValueError, RuntimeError) as error:
            raise NoCluster(
                f"No Ray cluster answered at {address}: start one with `ray start --head`, or use 'local'."
            ) from error
    return ray


def map_on_ray(
    rows: Iterable[dict],  # plain values
    worker: type,  # made once in each process; called with a batch {column: values}, gives such a batch
    arguments: tuple = (),  # of the worker
    *,
    address: str = "local",
    workers: int | None = None,  # one a core of the cluster, unless given
    batch_size: int = 32,
) -> Iterator[dict]:
    """Rows as `worker` gives them, in the order of `rows`, which may be endless: Ray Data gets a segment at a time.

    A worker that is killed is started again and its batches done again. Raises `NoRay` or `NoCluster`.
    """
    rest = iter(rows)
    while segment := list(islice(rest, SEGMENT)):
        ray = connect_ray(address)
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = context.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        blocks = -(-len(segment) // batch_size)
        pool = ray.data.ActorPoolStrategy(size=min(workers or cores, blocks))
        options = {"fn_constructor_args": arguments, "batch_size": batch_size, "compute": pool, "num_cpus": 1}
        data = ray.data.from_items(segment, override_num_blocks=blocks).map_batches(worker, **options)
        with closing(iter(data.iter_rows())) as found:  # whoever stops early frees the workers
            yield from found


def _knock(address: str) -> None:
    """Fail at once where nothing listens: Ray itself would try for more than a minute."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


def _options(address: str) -> dict:
    # Worker processes import winnow from where it is here, also in a checkout that isn't installed.
    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}}
    if address == "local":
        local = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        return {"runtime_env": environment, **local}
    return {"runtime_env": environment, "address": address}
