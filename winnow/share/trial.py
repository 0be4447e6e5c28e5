"""A trial run of `winnow serve` for the doctor: started, visited, measured and ended here."""

from __future__ import annotations

import http.cookiejar
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import psutil

PRIVATE = {
    ".jpg",
    ".jpeg",
    ".png",
    ".svg",
    ".gif",
    ".webp",
    ".db",
    ".pkl",
    ".onnx",
    ".ipynb",
    ".py",
    ".json",
    ".zip",
}
ROOTS = (
    "",
    "files/",
    "voila/files/",
    "static/",
    "voila/static/",
    "voila/templates/",
    "voila/render/",
    "api/contents/",
)


class TrialFailed(Exception):
    """The app could not be served for a trial."""


class Trial:
    """`with Trial(notebook) as trial:` the app is served on a free port of this machine's own address."""

    def __init__(self, notebook: Path):
        self.notebook = notebook
        self.browser = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # a proxy knows nothing of this machine's own address
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),
        )

    def __enter__(self) -> Trial:
        from winnow.share.serving import find_port

        port = find_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}/"
        command = [sys.executable, "-m", "winnow.cli", "serve", str(self.notebook), "--port", str(port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.notebook.parent
        )
        try:
            self._wait("health")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    def _wait(self, path: str, seconds: float = 60) -> None:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                lines = self.process.stdout.read().strip().splitlines() if self.process.stdout else []
                raise TrialFailed(
                    f"The app could not be served: {lines[-1] if lines else 'the server ended'}"
                )
            try:
                self.browser.open(self.url + path, timeout=5).close()
                return
            except OSError:
                time.sleep(0.1)
        raise TrialFailed(f"The app was not served within {seconds:.0f} seconds.")

    def visit(self) -> str:
        """The page that a visitor gets, with everything the notebook shows at its start."""
        try:
            with self.browser.open(self.url, timeout=120) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def memory(self) -> tuple[float, float]:
        """Megabytes of the server (with what kernels share) and of one visitor's kernel alone."""
        server = psutil.Process(self.process.pid)
        sizes = [child.memory_full_info().uss / 1e6 for child in server.children(recursive=True)]
        rest = server.memory_full_info().uss / 1e6
        direct = [child.memory_full_info().rss / 1e6 for child in server.children()]
        return rest + min(direct, default=0.0), max(sizes, default=0.0)

    def fetch_files(self, folder: Path, *, most: int = 40) -> list[str]:
        """Addresses under which a file of `folder` (or below) came back; should be none."""
        files = [path for path in folder.rglob("*") if path.suffix.lower() in PRIVATE and path.is_file()]
        files = [path for path in files if ".venv" not in path.parts and ".git" not in path.parts]
        spread = files[:: max(1, len(files) // most)]
        asked = [urllib.parse.quote(path.relative_to(folder).as_posix()) for path in spread]
        return [root + path for path in asked for root in ROOTS if self._comes_back(root + path)]

    def _comes_back(self, path: str) -> bool:
        try:
            with self.browser.open(self.url + path, timeout=20) as answer:
                return answer.status == 200
        except urllib.error.HTTPError:
            return False
