"""The engines behind `search_images`: each is a generator of `Found`, page by page, and raises a `SearchFailed`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx

from winnow.collect.found import AGENT, Blocked, Found, NothingFound, Offline

COMMON_QUERY = "cat"  # has pictures everywhere: an engine that finds none is refusing to answer
LICENCES = {  # what is asked for: how DuckDuckGo and Openverse call it
    "any": ("", {}),
    "open": ("Share", {"license_type": "all-cc"}),
    "commercial": ("ShareCommercially", {"license_type": "commercial"}),
    "modify": ("Modify", {"license_type": "modification"}),
    "commercial+modify": ("ModifyCommercially", {"license_type": "commercial,modification"}),
    "public": ("Public", {"license": "cc0,pdm"}),
}


@dataclass(frozen=True)
class SearchOptions:
    """How the engines are reached."""

    proxy: str | None = None  # http://host:port, for every engine
    verify: bool | str = True  # or the path of a CA bundle
    timeout: float = 10.0  # seconds for one request
    region: str = "us-en"  # DuckDuckGo's
    contact: str = ""  # your e-mail or page, told to Openverse and Wikimedia in the User-Agent
    openverse_url: str = "https://api.openverse.org"
    commons_url: str = "https://commons.wikimedia.org"


def duckduckgo(query: str, licence: str, options: SearchOptions) -> Iterator[Found]:
    """DuckDuckGo's pictures, by ddgs. It doesn't tell a picture's licence, only filters by it."""
    engine = _duckduckgo_engine(options)
    wanted, count = LICENCES[licence][0], 0
    for page in range(1, 8):
        rows = _ask_duckduckgo(engine, query, page, wanted, options)
        if not rows:
            break
        for row in rows:
            count += 1
            yield _from_duckduckgo(row, query, wanted)
    if count == 0:
        # A block and an empty answer look the same; something that is always there tells them apart.
        if query != COMMON_QUERY and _ask_duckduckgo(engine, COMMON_QUERY, 1, "", options):
            raise NothingFound(f"DuckDuckGo has no picture for {query!r}.")
        raise Blocked(_BLOCKED)


_BLOCKED = (
    "DuckDuckGo doesn't answer searches from here at the moment: wait some minutes, or use another source."
)


def _duckduckgo_engine(options: SearchOptions):
    """ddgs's own engine, kept from altering addresses: its result type unquotes them, which breaks %20 and %2B."""
    from ddgs.engines.duckduckgo_images import DuckduckgoImages

    class Engine(DuckduckgoImages):
        def extract_results(self, html_text: str) -> list[dict]:
            return json.loads(html_text).get("results", [])

        def request(self, *args: Any, **kwargs: Any) -> str:
            response = self.http_client.request(*args, **kwargs)
            if response.status_code != 200:
                raise Blocked(f"{_BLOCKED} (It said {response.status_code}.)")
            return response.text

    return Engine(proxy=options.proxy, timeout=options.timeout, verify=options.verify)


def _ask_duckduckgo(engine, query: str, page: int, licence: str, options: SearchOptions) -> list[dict]:
    from ddgs.exceptions import DDGSException, TimeoutException

    try:
        return engine.search(query, options.region, "on", page=page, license_image=licence) or []
    except TimeoutException as error:
        raise Offline(f"DuckDuckGo gave no answer within {options.timeout:g} seconds.") from error
    except DDGSException as error:
        if "vqd" in str(error):  # the page came, without the token that a search needs
            raise Blocked(_BLOCKED) from error
        raise Offline("DuckDuckGo can't be reached.") from error
    except json.JSONDecodeError as error:
        raise Blocked(_BLOCKED) from error


def _from_duckduckgo(row: dict, query: str, wanted: str) -> Found:
    return Found(
        url=row.get("image") or "",
        page=row.get("url") or "",
        title=unescape(row.get("title") or ""),
        thumbnail=row.get("thumbnail") or "",
        width=_number(row.get("width")),
        height=_number(row.get("height")),
        engine="duckduckgo",
        query=query,
        licence=f"filtered by {wanted}" if wanted else "",
    )


def openverse(query: str, licence: str, options: SearchOptions) -> Iterator[Found]:
    """Openly licensed pictures, with creator and licence. It allows some twenty requests a minute."""
    params = {"q": query, "page_size": 20, "mature": "false", **LICENCES[licence][1]}
    with _client(options) as client:
        for page in range(1, 13):  # without a key it shows 240 pictures
            answer = _get(
                client, "Openverse", f"{options.openverse_url}/v1/images/", {**params, "page": page}
            )
            rows = _json(answer, "Openverse").get("results", [])
            for row in rows:
                yield _from_openverse(row, query)
            if not rows and page == 1:
                raise NothingFound(f"Openverse has no picture for {query!r}.")
            if len(rows) < 20:
                return
            if _used_up(answer.headers):
                raise Blocked("Openverse's allowance is used up: wait a minute for more pictures.")


def _used_up(headers: httpx.Headers) -> bool:
    """Whether a rate header (burst, sustained) says that no request is left."""
    left = [
        value
        for name, value in headers.items()
        if name.startswith(("x-ratelimit-available", "x-ratelimit-remaining"))
    ]
    return any(_number(value) == 0 for value in left)


def _from_openverse(row: dict, query: str) -> Found:
    version = f" {row['license_version']}" if row.get("license_version") else ""
    return Found(
        url=row.get("url") or "",
        page=row.get("foreign_landing_url") or "",
        title=row.get("title") or "",
        thumbnail=row.get("thumbnail") or "",
        width=_number(row.get("width")),
        height=_number(row.get("height")),
        engine="openverse",
        query=query,
        creator=row.get("creator") or "",
        licence=_licence_name(row.get("license") or "") + version,
        licence_url=row.get("license_url") or "",
        attribution=row.get("attribution") or "",
    )


def _licence_name(code: str) -> str:
    return {"cc0": "CC0", "pdm": "Public Domain Mark", "": ""}.get(code, f"CC {code.upper()}")


def commons(query: str, licence: str, options: SearchOptions) -> Iterator[Found]:
    """Pictures from Wikimedia Commons. All may be used commercially and changed; there is no safe search."""
    params = {
        "action": "query",
        "format": "json",
        "formatversion": 2,
        "generator": "search",
        "gsrsearch": f"{query} filetype:bitmap",
        "gsrnamespace": 6,
        "gsrlimit": 50,
        "prop": "imageinfo",
        "iiprop": "url|size|mime|sha1|extmetadata",
        "iiurlwidth": 320,
        "maxlag": 5,
    }
    more: dict[str, Any] = {}
    with _client(options) as client:
        while True:
            answer = _get(client, "Wikimedia Commons", f"{options.commons_url}/w/api.php", {**params, **more})
            body = _json(answer, "Wikimedia Commons")
            pages = sorted(body.get("query", {}).get("pages", []), key=lambda page: page.get("index", 0))
            if not pages and not more:
                raise NothingFound(f"Wikimedia Commons has no picture for {query!r}.")
            rows = (_from_commons(page, query) for page in pages if page.get("imageinfo"))
            yield from (row for row in rows if licence != "public" or _is_public(row.licence))
            if "continue" not in body:
                return
            more = body["continue"]


def _from_commons(page: dict, query: str) -> Found:
    info = page["imageinfo"][0]
    about = {name: _plain(entry.get("value", "")) for name, entry in info.get("extmetadata", {}).items()}
    return Found(
        url=info["url"],
        page=info.get("descriptionurl", ""),
        title=page.get("title", "").removeprefix("File:"),
        thumbnail=info.get("thumburl", ""),
        width=info.get("width"),
        height=info.get("height"),
        engine="commons",
        query=query,
        creator=about.get("Artist", ""),
        licence=about.get("LicenseShortName", ""),
        licence_url=about.get("LicenseUrl", ""),
        attribution=about.get("Attribution", "") or about.get("Credit", ""),
    )


def _is_public(licence: str) -> bool:
    return licence.lower().startswith(("public domain", "cc0", "pd"))


def _plain(value: Any) -> str:
    """Text without the HTML that Commons puts into its metadata."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", str(value))).split())


def _client(options: SearchOptions) -> httpx.Client:
    agent = f"{AGENT[:-1]}; {options.contact})" if options.contact else AGENT
    verify = options.verify
    if isinstance(verify, str):
        import ssl

        verify = ssl.create_default_context(cafile=verify)
    return httpx.Client(
        headers={"User-Agent": agent},
        timeout=options.timeout,
        proxy=options.proxy,
        verify=verify,
        follow_redirects=True,
    )


def _get(client: httpx.Client, name: str, url: str, params: dict) -> httpx.Response:
    try:
        answer = client.get(url, params=params)
    except httpx.TransportError as error:
        raise Offline(f"{name} can't be reached.") from error
    if answer.status_code >= 500:
        raise Offline(f"{name} is out of order at the moment (it said {answer.status_code}).")
    if answer.status_code >= 400:
        wait = answer.headers.get("retry-after", "")
        when = f"in {wait} seconds" if wait.isdigit() else "later"
        raise Blocked(f"{name} refuses searches from here (it said {answer.status_code}): try again {when}.")
    return answer


def _json(answer: httpx.Response, name: str) -> dict:
    """The answer's JSON; a page of HTML in its place is a block (or the log-in page of a hotel's network)."""
    try:
        body = answer.json()
    except ValueError as error:
        raise Blocked(f"{name} answered with something that is not a search result.") from error
    if "error" in body:
        raise Blocked(f"{name} refused the search: {body['error'].get('info', body['error'])}")
    return body


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


ENGINES = {"duckduckgo": duckduckgo, "openverse": openverse, "commons": commons}
