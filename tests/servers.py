"""Start a real server as a process of its own and end it by its id; used by tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start_voila(
    notebook: Path, cwd: Path, env: dict[str, str], *options: str
) -> tuple[subprocess.Popen, str]:
    """Plain Voila with the repository's voila.json."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "voila", str(notebook), "--no-browser", f"--port={port}"),
        *("--Voila.ip=127.0.0.1", "--Voila.port_retries=0", f"--Voila.config_file_paths={[str(ROOT)]}"),
    ]
    return start([*command, *options], f"http://127.0.0.1:{port}/", "voila/static/voila.js", cwd, env)


def start_winnow(
    notebook: Path, *options: str, env: dict[str, str] | None = None, base: str = ""
) -> tuple[subprocess.Popen, str]:
    """`winnow serve` with `options`; `base`: the path that they put the app under, if any."""
    port = free_port()
    command = [sys.executable, "-m", "winnow.cli", "serve", str(notebook), f"--port={port}", *options]
    return start(command, f"http://127.0.0.1:{port}/{base}", "health", Path(notebook).parent, env or {})


def start(
    command: list[str], url: str, probe: str, cwd: Path, env: dict[str, str]
) -> tuple[subprocess.Popen, str]:
    """Start `command` and wait until `url` + `probe` answers; a server that ends instead says why."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    process.log = []
    threading.Thread(target=_keep_reading, args=(process,), daemon=True).start()
    try:
        _wait_until_up(url + probe, process)
    except BaseException:
        stop(process)
        raise
    return process, url


def _keep_reading(process: subprocess.Popen) -> None:
    """A full pipe would block the server; what it wrote is in `process.log`, and a failing test prints it."""
    for line in process.stdout:
        process.log.append(line)
        sys.stderr.write(line)


def _wait_until_up(url: str, process: subprocess.Popen, *, seconds: float = 90) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if process.poll() is not None:
            time.sleep(0.2)
            raise RuntimeError(f"The server ended with {process.returncode}:\n{''.join(process.log)}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"{url} did not answer within {seconds} s.")


def stop(process: subprocess.Popen) -> None:
    """End the server; its kernels end with it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
