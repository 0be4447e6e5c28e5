"""How Binder reaches `winnow serve`: the entry point that jupyter-server-proxy reads."""

from __future__ import annotations

import sys
from typing import Any

MEMORY_MB = 2048  # of one Binder session, for everybody in it
OTHERS_MB = 250  # the Jupyter server that Binder starts beside


def proxied_app() -> dict[str, Any]:
    """`…/winnow/` on a Jupyter server is `winnow serve app.ipynb`, started by the first visit."""
    from winnow.share.kernels import fitting_visitors

    places = fitting_visitors(total_mb=MEMORY_MB - OTHERS_MB)
    command = [sys.executable, "-m", "winnow.cli", "serve", "app.ipynb"]
    command += ["--port={port}", "--base-url={base_url}winnow/", f"--max-visitors={places}"]
    return {
        "command": command,
        "absolute_url": True,  # the app's own addresses carry Binder's path
        "timeout": 60,
        "new_browser_tab": False,
        "launcher_entry": {"title": "Winnow"},
    }
