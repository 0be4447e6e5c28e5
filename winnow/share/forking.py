"""Kernels forked from one process that has everything imported, as Chrome and Android start theirs.

A kernel that starts by itself spends a second or more importing, and each holds its own copy of all that
code. A forked one is there in a tenth of the time and shares those pages with the others, so a small machine
serves several times as many visitors. Linux only: elsewhere, and whenever the mother process doesn't answer,
kernels start as they always do.

    python -m winnow.share.forking SOCKET MODULE…     the mother: one JSON request a connection, answers a pid
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

KERNEL = [
    *("ipykernel.kernelapp", "ipykernel.ipkernel", "ipywidgets", "anywidget", "tornado.platform.asyncio"),
    *(
        "IPython.core.completerlib",
        "IPython.core.debugger",
        "IPython.extensions.storemagic",
        "encodings.idna",
    ),
    *("tornado.locks", "tornado.queues"),
]
# A visitor debugs nothing, and what a kernel ran belongs in nobody's history: 10 MB and a thread less.
OPTIONS = ["--HistoryManager.enabled=False"]
APP = ["winnow.share.photo_app", "onnxruntime"]


def be_mother(address: str, modules: list[str]) -> None:
    """Import `modules`, then fork a kernel for each request until the process that started this one is gone."""
    server = os.getppid()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    listener.settimeout(1.0)
    sys.modules["debugpy"] = None  # type: ignore[assignment]  # see OPTIONS
    for module in [*KERNEL, *modules]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # collecting garbage would write into every shared page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps ended kernels
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C ends the server, which ends its kernels
    while os.getppid() == server:
        with contextlib.suppress(TimeoutError, ConnectionError, ValueError):
            connection, _ = listener.accept()
            _answer(connection, listener)


def _answer(connection: socket.socket, listener: socket.socket) -> None:
    with connection:
        connection.settimeout(5)
        with connection.makefile("rwb") as stream:
            request = json.loads(stream.readline())
            mother = os.getpid()
            pid = os.fork()
            if pid == 0:
                listener.close()
                _become_kernel(request, mother)
            stream.write(b"%d\n" % pid)


def _become_kernel(request: dict, mother: int) -> None:
    """In the fork: be what `python -m ipykernel_launcher` would have been. Never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.path[0] = ""  # notebooks import what lies beside them
        sys.argv = ["ipykernel_launcher", *request["arguments"]]
        import ipywidgets
        from ipykernel.kernelapp import IPKernelApp

        app = IPKernelApp.instance()
        # The mother's end is this kernel's end: ipykernel watches its parent.
        app.initialize([*request["arguments"], *OPTIONS, f"--IPKernelApp.parent_handle={mother}"])
        ipywidgets.register_comm_target()  # it does so when it is imported in a kernel: here that was earlier
        app.start()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # not the mother's way out


class Mother:
    """The server's side of that process: starts it, asks it for kernels, ends it."""

    def __init__(self, folder: Path | str, modules: list[str] | None = None, env: dict | None = None):
        self.address = str(Path(folder) / "mother")
        command = [sys.executable, "-m", "winnow.share.forking", self.address, *(modules or APP)]
        self.process = subprocess.Popen(command, env={**os.environ, **(env or {})})

    async def fork(self, arguments: list[str], *, env: dict[str, str], cwd: str) -> ForkedProcess:
        """A kernel with these arguments of `ipykernel_launcher`. Raises `OSError` if the mother doesn't answer."""
        await self._wait_until_it_listens()
        reader, writer = await asyncio.open_unix_connection(self.address)
        with contextlib.closing(writer):
            writer.write(json.dumps({"arguments": arguments, "env": env, "cwd": cwd}).encode() + b"\n")
            await writer.drain()
            line = await asyncio.wait_for(reader.readline(), 30)
        if not line.strip():
            raise ConnectionError("the mother process ended")
        return ForkedProcess(int(line))

    async def _wait_until_it_listens(self) -> None:
        for _ in range(100):
            if Path(self.address).exists() or self.process.poll() is not None:
                return
            await asyncio.sleep(0.05)

    def stop(self) -> None:
        """End it; kernels that are left end with it."""
        self.process.terminate()
        self.process.wait()


class ForkedProcess:
    """As much of `subprocess.Popen` as Jupyter uses, for a process that is not this one's child."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int):
        import psutil

        self.pid = pid
        self._process: Any = None
        with contextlib.suppress(psutil.NoSuchProcess):
            self._process = psutil.Process(pid)  # remembers when it was started: pids come again

    def poll(self) -> int | None:
        """None while it runs; its exit status is the mother's to know, so 0 after."""
        return None if self._process is not None and self._process.is_running() else 0

    def wait(self, timeout: float | None = None) -> int:
        if self._process is not None:
            self._process.wait(timeout)
        return 0

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def install(mother: Mother) -> None:
    """From now on this process's kernels of its own Python are forked from `mother`."""
    from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

    class ForkingProvisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
            if mother.process.poll() is None and cmd[0] == sys.executable and "ipykernel_launcher" in cmd:
                arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
                with contextlib.suppress(OSError, asyncio.TimeoutError):
                    env, cwd = kwargs["env"], kwargs.get("cwd") or Path.cwd()
                    self.process = await mother.fork(arguments, env=env, cwd=str(cwd))
                    self.pid = self.pgid = self.process.pid
                    self.cwd = cwd
                    return self.connection_info
            return await super().launch_kernel(cmd, **kwargs)

    class Entry:
        """What an entry point gives."""

        @staticmethod
        def load() -> type:
            return ForkingProvisioner

    factory = KernelProvisionerFactory.instance()
    factory.provisioners["winnow-forking"] = Entry
    factory.default_provisioner_name = "winnow-forking"


if __name__ == "__main__":
    be_mother(sys.argv[1], sys.argv[2:])
