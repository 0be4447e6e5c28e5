"""Ranking and estimating beside the person who reviews: background threads that never block a key."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.catalog import Catalog

PAUSE = 0.7  # seconds without a choice before the estimate is worked out anew


def rank_in_background(
    catalog: Catalog,
    target: str | None,
    *,
    learn: Any = None,  # a learner whose training margins are one more view, if it kept them
    done: Callable[[Any], None],  # gets the `Suspects`
    say: Callable[[str], None],  # gets what goes on, in words; "" at the end
) -> threading.Thread:
    """Find the suspects on a thread; what goes wrong is said, and the list stays usable unranked."""

    def run() -> None:
        from winnow.clean.suspects import find_suspects  # costs a second, so not before the window is open

        try:
            done(find_suspects(catalog, target=target, learn=learn, progress=_now_and_then(say)))
            say("")
        except Exception as error:  # nobody stands above a thread to catch it
            say(f"Not ranked: {error}")

    say("Looking for wrong labels…")
    thread = threading.Thread(target=run, daemon=True, name="winnow-ranking")
    thread.start()
    return thread


def _now_and_then(say: Callable[[str], None]) -> Callable[[int, int], None]:
    """Say how far it is, twice a second at most: each is a message to the browser."""
    said = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > 0.5:
            said = time.monotonic()
            say(f"Looking at the photos: {done:,} of {total:,}")

    return progress


class Estimator:
    """Works out the estimate when choices have come and a pause follows."""

    def __init__(self, estimate: Callable[[], Any], show: Callable[[Any], None]):
        self._estimate, self._show = estimate, show
        self._due, self._open = threading.Event(), True
        threading.Thread(target=self._run, daemon=True, name="winnow-estimate").start()

    def poke(self) -> None:
        """A choice was made."""
        self._due.set()

    def close(self) -> None:
        """End the thread."""
        self._open = False
        self._due.set()

    def _run(self) -> None:
        while self._open:
            self._due.wait()
            while self._open and self._due.is_set():  # wait until the keys rest
                self._due.clear()
                self._due.wait(PAUSE)
            if self._open:
                self._show(self._estimate())


def estimate_words(estimate: Any) -> dict:
    """What the window shows of an `Estimate`: about how many, and whether to go on."""
    low, high = f"{estimate.low:,.0f}", f"{estimate.high:,.0f}"
    wrong = f"About {estimate.wrong:,.0f} labels are wrong ({low} to {high}), {estimate.found:,} found."
    return {"wrong": wrong, "advice": estimate.advice, "stop": estimate.advice.startswith("Stop")}
