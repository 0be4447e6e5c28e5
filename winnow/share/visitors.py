"""Who may come in: places, and a line for those who found none. No server in here, so it can be reasoned about."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Visit:
    """One open page: whose it is, since when, and since when no browser is connected to it (None: one is)."""

    visitor: str
    since: float
    alone_since: float | None
    sockets: int = 0
    seen: bool = False  # whether a browser ever connected: a robot that only fetches the page never does


@dataclass
class Door:
    """Lets visitors in first come, first served, while there are places.

    A visitor in line holds the position by asking again; one who doesn't ask for `patience` seconds has left.
    """

    places: int
    patience: float = 30.0
    now: Callable[[], float] = time.monotonic
    line: dict[str, float] = field(default_factory=dict)  # visitor → last asked, in order of arrival

    def ask(self, visitor: str, taken: int, *, enter: bool = True) -> int:
        """0 when the visitor may come in, else the position in line, from 1. `taken`: places in use.

        `enter=False` only asks: the visitor keeps the position, even at the head.
        """
        self._forget_the_gone()
        self.line[visitor] = self.now()
        position = list(self.line).index(visitor)
        if position < self.places - taken:
            if enter:
                del self.line[visitor]
            return 0
        return position + 1

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        self._forget_the_gone()
        return len(self.line)

    def _forget_the_gone(self) -> None:
        limit = self.now() - self.patience
        self.line = {visitor: asked for visitor, asked in self.line.items() if asked >= limit}


@dataclass
class Allowance:
    """How many bytes a browser may send: `burst` at once, and `rate` a second on average."""

    burst: float = 96e6
    rate: float = 8e6
    now: Callable[[], float] = time.monotonic
    used: float = 0.0
    at: float | None = None

    def spend(self, size: int) -> bool:
        """Whether `size` more bytes are still within the allowance."""
        now = self.now()
        self.used = max(0.0, self.used - (now - (self.at if self.at is not None else now)) * self.rate) + size
        self.at = now
        return self.used <= self.burst
