"""Find a Chrome or Chromium for the browser tests; run as a script, install one where there is none.

In this order: the one that WINNOW_BROWSER names, an installed Chrome or Chromium, Playwright's own build,
Debian's `chromium` package. A machine without any of them fails here, in one sentence, and not in a test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome")
MAC_APPS = ("Google Chrome", "Chromium")
ARGUMENTS = [
    "--no-sandbox",  # a container's root has no user namespaces
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_browser() -> str | None:
    """Path of a browser that starts, or None."""
    return next((path for path in _candidates() if _starts(path)), None)


def install_browser() -> str | None:
    """Path of a browser that starts, fetched by Playwright or apt where none is installed, or None."""
    for install in (lambda: None, _install_by_playwright, _install_by_apt):
        install()
        if path := find_browser():
            return path
    return None


def _candidates() -> Iterator[str]:
    """Lazily, because asking Playwright for its own takes a second."""
    if named := os.environ.get("WINNOW_BROWSER"):
        yield named
    yield from filter(None, map(shutil.which, NAMES))
    for root in (Path("/"), Path.home()):
        yield from (str(root / f"Applications/{app}.app/Contents/MacOS/{app}") for app in MAC_APPS)
    if own := _playwrights_own():
        yield own


def _playwrights_own() -> str | None:
    from playwright.sync_api import sync_playwright

    try:
        with sync_playwright() as playwright:
            return playwright.chromium.executable_path
    except Exception as error:  # a driver that can't start is no reason to miss an installed browser
        print(f"Playwright: {error}", file=sys.stderr)
        return None


def _starts(path: str) -> bool:
    """Whether it really runs: Ubuntu's `chromium-browser` may be a stub, a download may lack a library."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _install_by_playwright() -> None:
    print("No Chrome or Chromium is installed: Playwright fetches its own build.", flush=True)
    _run([sys.executable, "-m", "playwright", "install", "chromium"])


def _install_by_apt() -> None:
    if not shutil.which("apt-get"):
        return
    print("Playwright's build doesn't run here: apt-get installs Debian's chromium.", flush=True)
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    _run([*root, "apt-get", "update", "-qq"])
    _run([*root, "apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"])


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, timeout=600, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)


if __name__ == "__main__":
    path = install_browser()
    if path is None:
        sys.exit(
            "No browser for the tests: install Chrome or Chromium, or set WINNOW_BROWSER to the path of one."
        )
    print(f"Browser for the tests: {path}")
