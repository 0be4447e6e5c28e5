"""From a few words to a list of pictures to look at: three engines that need no key, in order of fall-back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from winnow.collect.engines import ENGINES, LICENCES, SearchOptions
from winnow.collect.found import Blocked, Found, NothingFound, Offline, Results, SearchFailed, UnknownChoice

SOURCES = ("duckduckgo", "openverse", "commons")


def search_images(
    query: str,
    n: int = 100,
    *,
    source: str | Sequence[str] = SOURCES,  # tried in this order until `n` pictures are there
    licence: str = "any",  # "any", "open", "commercial", "modify", "commercial+modify", "public"
    label: str = "",  # the class that the pictures are for
    skip: Iterable[str] = (),  # addresses already known, so that more are searched for beyond them
    **options,  # of `SearchOptions`: proxy, verify, timeout, …
) -> Results:
    """Up to `n` pictures for `query`, each address once, with safe search on where the engine has it.

    A source that fails or has too few is followed by the next; `notes` of the result says which and why.
    Raises `Blocked`, `Offline` or `NothingFound` if no source has a picture.
    """
    settings = SearchOptions(**options)
    sources = _check_sources(source)
    if licence not in LICENCES:
        raise UnknownChoice(f"Unknown licence {licence!r}: use one of {', '.join(LICENCES)}.")
    seen, rows, failures = set(skip), [], []
    for name in sources:
        try:
            new = _fresh(ENGINES[name](query, licence, settings), seen)
            for row in islice(new, n - len(rows)):
                rows.append(row)
        except SearchFailed as failure:
            failures.append(failure)
        if len(rows) >= n:
            break
    if not rows:
        raise _verdict(query, failures)
    return Results(rows, [str(failure) for failure in failures]).labelled(label)


def search_classes(
    classes: Sequence[str],
    n: int = 100,
    *,
    template: str = "{} photo",  # the words to search for, with the class name in place of {}
    **options,  # of `search_images`
) -> Results:
    """One search for each of `classes`, up to `n` pictures each, as one list whose rows carry their class.

    A class with nothing found becomes a note; raises as `search_images` does if every class failed.
    """
    rows, notes, failures = [], [], []
    for name in classes:
        try:
            found = search_images(template.format(name), n, label=name, **options)
            rows += found
            notes += [f"{name}: {note}" for note in found.notes]
        except SearchFailed as failure:
            failures.append(failure)
            notes.append(f"{name}: {failure}")
    if not rows and failures:
        raise failures[0]
    return Results(rows, notes)


def _check_sources(source: str | Sequence[str]) -> Sequence[str]:
    sources = [source] if isinstance(source, str) else list(source)
    if unknown := [name for name in sources if name not in ENGINES]:
        raise UnknownChoice(f"Unknown source {unknown[0]!r}: use {', '.join(ENGINES)}.")
    return sources


def _fresh(rows: Iterable[Found], seen: set[str]) -> Iterable[Found]:
    """Rows whose address wasn't seen before; `seen` grows."""
    for row in rows:
        if row.url not in seen:
            seen.add(row.url)
            yield row


def _verdict(query: str, failures: list[SearchFailed]) -> SearchFailed:
    """One outcome for several sources: blocked beats the rest (waiting helps), offline needs them all."""
    what = " ".join(map(str, failures))
    kinds = {type(failure) for failure in failures}
    if Blocked in kinds:
        return Blocked(f"No picture for {query!r}. {what}")
    if kinds == {Offline}:
        return Offline(
            f"No picture for {query!r}: no source can be reached. Check the network, or work on with a folder "
            f"of your own photos (SOURCE = 'folder') or the sample. {what}"
        )
    return NothingFound(f"No picture for {query!r}: try other words. {what}".strip())
