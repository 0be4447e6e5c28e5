"""Progress of a long step: a bar that redraws itself in a notebook, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from html import escape


class Progress:
    """Call it with (done, total, note); shown at most four times a second, and always at the end."""

    def __init__(self, title: str):
        self.title = title
        self._began = time.monotonic()
        self._last = 0.0
        self._handle = None
        self._notebook = "ipykernel" in sys.modules

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done < total and now - self._last < (0.25 if self._notebook else 5):
            return
        self._last = now
        text = f"{self.title}: {done:,} of {total:,}" + (f", {note}" if note else "")
        text += f" ({now - self._began:.0f} s)"
        if self._notebook:
            self._draw(done, total, text)
        else:
            print(text, flush=True)

    def _draw(self, done: int, total: int, text: str) -> None:
        from IPython.display import HTML, display

        bar = "" if done >= total else f'<progress value="{done}" max="{total}"></progress> '
        shown = HTML(f"<div>{bar}{escape(text)}</div>")
        if self._handle is None:
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)
