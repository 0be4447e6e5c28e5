"""Import this before Voila: what its packages would load and no app needs stays out of the server.

jsonschema builds a grammar of international web addresses at its import, to check a format that no notebook
uses: 16 MB and a second and a half of processor time at each start of the server.
"""

from __future__ import annotations

import sys

GRAMMAR = "rfc3987_syntax"

if GRAMMAR not in sys.modules:
    sys.modules[GRAMMAR] = None  # type: ignore[assignment]  # what Python takes for "is not installed"
    try:
        import jsonschema  # noqa: F401
    finally:
        del sys.modules[GRAMMAR]
