"""Web addresses as people and engines write them, made fit to be asked for."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from yarl import URL

_FIT = (
    "!#$%&'()*+,/:;=?@[]~"  # what may stand in an address as it is, beside letters, digits, "_", "." and "-"
)
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def address_of(url: str) -> URL:
    """`url` to ask for: what HTTP can't carry is quoted, and nothing else is changed. Raises `ValueError`.

    A signed query string must arrive as it was written, so what is quoted already stays as it is.
    """
    parts = urlsplit(url.strip())
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError("only http and https are fetched")
    if not parts.hostname or _CONTROL.search(parts.netloc):
        raise ValueError("it names no host")
    whole = parts._replace(path=quote(parts.path, _FIT), query=quote(parts.query, _FIT), fragment="")
    address = URL(whole.geturl(), encoded=True)
    return address if parts.hostname.isascii() else address.with_host(parts.hostname)
