"""Ray, where a job is too much for one machine: connecting to a cluster, and what to say when it isn't there."""

from __future__ import annotations

import socket
from pathlib import Path


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
            ray.init(log_to_driver=False, **_options(address))
        except (OSError, ValueError, RuntimeError) as error:
            raise NoCluster(
                f"No Ray cluster answered at {address}: start one with `ray start --head`, or use 'local'."
            ) from error
    return ray


def _knock(address: str) -> None:
    """Fail at once where nothing listens: Ray itself would try for more than a minute."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()


def _options(address: str) -> dict:
    # Worker processes import winnow from where it is here, also in a checkout that isn't installed.
    environment = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}}
    if address == "local":
        local = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        return {"runtime_env": environment, **local}
    return {"runtime_env": environment, "address": address}
