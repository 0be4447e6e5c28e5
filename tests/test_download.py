"""Download: real photos and every fault of the web, from a stand-in of it on this machine."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from replica import photos
from replica.server import FAULTS, GOOD, Replica

from winnow.catalog import Catalog, UnknownClass
from winnow.collect.address import address_of
from winnow.collect.crew import Crew, NoNetwork
from winnow.collect.download import DownloadRunning, download, report, top_up
from winnow.collect.found import Found
from winnow.collect.guard import is_public
from winnow.collect.ledger import Ledger, host_of
from winnow.collect.report import rejection_counts
from winnow.images import open_image

QUICK = {"allow_hosts": ("127.0.0.1",), "stall": 15, "total": 30, "backoff": 0.05, "max_bytes": 3_000_000}
HANGING = ("stall", "drip")
REASONS = {  # what each fault that can't be mended is called
    "html": "not an image", "truncated": "damaged or cut off", "zeros": "zeros inside", "pixel": "too small",
    "bomb": "too many pixels", "nothing": "empty file", "noise": "not an image", "404": "not found",
    "403": "access refused", "500": "server fault", "429": "too many requests", "stall": "too slow",
    "drip": "too slow", "cut": "broke off", "loop": "too many redirects", "endless": "too large",
    "big": "too large", "noai": "noai", "inward": "private address",
}  # fmt: skip


@pytest.fixture(scope="module")
def web():
    with Replica(6) as web:
        yield web


@pytest.fixture
def catalog(tmp_path):
    return Catalog(tmp_path / "data")


@pytest.fixture(scope="module")
def all_faults(web, tmp_path_factory):
    """Every fault, each its own class, among 20 fine photos; what hangs is given up soon, in a call of its own."""
    catalog = Catalog(tmp_path_factory.mktemp("faults") / "data")
    hanging = [(web.url(200 + place, fault), fault) for place, fault in enumerate(HANGING)]
    rows = [(web.url(number), "fine") for number in range(20)]
    others = (fault for fault in FAULTS if fault not in (*HANGING, "duplicate"))
    rows += [(web.url(100 + place, fault), fault) for place, fault in enumerate(others)]
    download(catalog, hanging, **{**QUICK, "stall": 0.5, "total": 1.5})
    return catalog, download(catalog, rows, **QUICK), hanging + rows


def test_every_address_ends_as_a_photo_or_as_a_rejection_with_a_reason(all_faults):
    catalog, report, rows = all_faults
    taken = {photo.origin["url"] for photo in catalog.photos()}
    refused = {rejection.source for rejection in catalog.rejections()}
    assert taken | refused == {url for url, _ in rows} and not taken & refused
    assert report.waiting == 0 and sum(report.found.values()) == len(rows)
    assert all(rejection.reason for rejection in catalog.rejections())


@pytest.mark.parametrize("fault", [fault for fault in GOOD if fault != "duplicate"])
def test_a_photo_that_came_the_hard_way_is_a_photo(all_faults, fault):
    catalog, report, _ = all_faults
    assert report.images[fault] == 1
    assert open_image(catalog.file(catalog.photos(label=fault)[0].path)).mode == "RGB"


@pytest.mark.parametrize("fault", REASONS)
def test_what_is_no_photo_is_refused_and_says_why(all_faults, fault):
    _, report, _ = all_faults
    assert report.images[fault] == 0
    assert dict(report.rejected[fault]) == {REASONS[fault]: 1}


def test_the_report_and_the_catalog_count_alike(all_faults):
    catalog, report, _ = all_faults
    assert rejection_counts(catalog) == report.reasons
    assert "fine: 20 found, 20 in the catalog" in str(report) and "<td>20</td>" in report._repr_html_()


def test_a_turned_photo_stands_upright(all_faults):
    catalog, _, _ = all_faults
    photo = catalog.photos(label="rotated")[0]
    number = int(photo.origin["url"].rsplit("/", 1)[1].removesuffix(".jpg"))
    assert (photo.width, photo.height) == photos.cutting(number).size[::-1]


def test_nothing_is_left_over_on_the_disk(all_faults):
    catalog, _, _ = all_faults
    assert list((catalog.cache / "downloads").iterdir()) == []


def test_a_second_call_fetches_nothing(all_faults, web):
    catalog, before, rows = all_faults
    asked = web.requests.total()
    assert download(catalog, rows, **QUICK).rows() == before.rows()
    assert web.requests.total() == asked


def test_the_query_string_is_part_of_the_address(catalog, web):
    base = f"http://127.0.0.1:{web.ports[0]}/query"
    result = download(catalog, [(f"{base}?id={n}", "a") for n in (5, 6, 7)] + [(base, "a")], **QUICK)
    assert result.images["a"] == 3 and result.reasons == {"not found": 1}
    assert {photo.sha256 for photo in catalog.photos()} == {photos_sha(n) for n in (5, 6, 7)}


def photos_sha(number):
    import hashlib

    return hashlib.sha256(photos.photo(number)).hexdigest()


def test_the_same_picture_twice_in_a_class_is_kept_once(catalog, web):
    rows = [(web.url(0), "a"), (web.url(1, "duplicate", host=1), "a"), (web.url(1, "duplicate", host=2), "b")]
    result = download(catalog, rows, concurrency=1, **QUICK)
    assert dict(result.images) == {"a": 1, "b": 1}  # in two classes it is a conflict, and a person decides
    assert result.reasons == {"same picture": 1}
    (rejection,) = catalog.rejections()  # its maker can still be credited: `write_card` looks there
    assert rejection.origin["same_as"] in {photo.sha256 for photo in catalog.photos(label="a")}


def test_a_placeholder_served_at_many_places_is_no_photo(catalog, web):
    rows = [(web.url(number, "placeholder", host=1), "a") for number in range(5)] + [(web.url(3), "a")]
    assert download(catalog, rows[-3:], **QUICK).images["a"] == 2  # of two alike, one may still be a photo
    result = download(catalog, rows, **QUICK)
    assert result.images["a"] == 1 and result.waiting == 0
    assert [photo.origin["url"] for photo in catalog.photos()] == [web.url(3)]
    assert result.reasons["placeholder"] >= 4
    catalog.undo()
    assert len(catalog.photos()) == 2  # it was removed as everything is: so that it can come back


def test_a_pending_decision_of_a_person_is_not_applied_by_the_way(catalog, web):
    download(catalog, [(web.url(3), "a"), (web.url(4), "a")], **QUICK)
    path = catalog.photos()[0].path
    catalog.remove(path, by="me")
    download(catalog, [(web.url(number, "placeholder", host=1), "a") for number in range(4)], **QUICK)
    assert catalog.file(path).exists() and path in catalog.pending()


def test_a_host_is_asked_for_patience_and_gets_it(catalog):
    with Replica(1) as web:
        result = download(
            catalog, [(web.url(1, "once429"), "a"), (web.url(2), "a")], **{**QUICK, "per_host": 1}
        )
        times = dict(reversed(web.times))
        first, again = [at for path, at in web.times if path.endswith("/once429/1.jpg")]
    assert result.images["a"] == 2 and again - first >= 0.95
    assert times


def test_a_wait_that_is_too_long_is_not_waited_for(catalog, web):
    url = web.url(9001, "429")
    result = download(catalog, [(url, "a")], **QUICK, max_wait=0.5)
    assert result.reasons == {"too many requests": 1}
    assert "come back in 1 seconds" in catalog.rejections()[0].reason
    assert web.requests[url.partition("127.0.0.1:")[2]] == 1


def test_what_failed_for_a_while_can_be_tried_again(catalog):
    with Replica(1) as web:
        rows = [(web.url(1, "once503"), "a"), (web.url(2, "404"), "a")]
        assert download(catalog, rows, **QUICK, tries=1).reasons == {"server fault": 1, "not found": 1}
        assert download(catalog, **QUICK).images["a"] == 0
        again = download(catalog, retry=True, **QUICK)
        asked = web.requests
    assert again.images["a"] == 1 and again.reasons == {"not found": 1}
    assert rejection_counts(catalog) == {"not found": 1}
    assert sum(count for path, count in asked.items() if "404" in path) == 1


def test_no_host_gets_more_connections_than_allowed(catalog):
    with Replica(2, latency=(0.02, 0.05)) as web:
        result = download(catalog, [(web.url(number), "a") for number in range(40)], **QUICK, per_host=3)
        assert result.images["a"] == 40
        assert max(web.most_open.values()) <= 3


def test_robots_txt_is_kept_and_can_be_overruled(catalog):
    with Replica(2) as web:
        web.robots[web.ports[0]] = "User-agent: *\nDisallow: /photo/\n"
        web.robots[web.ports[1]] = "User-agent: winnow-images\nAllow: /\n\nUser-agent: *\nDisallow: /\n"
        result = download(catalog, [(web.url(2, host=0), "a"), (web.url(3, host=1), "a")], **QUICK)
        assert result.reasons == {"robots.txt forbids": 1} and result.images["a"] == 1
        assert web.requests[f"{web.ports[0]}/photo/2.jpg"] == 0
        assert web.requests[f"{web.ports[0]}/robots.txt"] == 1
        rows = [(web.url(4, host=0), "b"), (web.url(5, "noai", host=0), "b")]
        assert download(catalog, rows, **QUICK, robots=False, noai=False).images["b"] == 2


def test_a_crawl_delay_is_kept(catalog):
    with Replica(1) as web:
        web.robots[web.ports[0]] = "User-agent: *\nCrawl-delay: 0.4\n"
        download(catalog, [(web.url(number), "a") for number in range(3)], **QUICK)
        at = sorted(at for path, at in web.times if "/photo/" in path)
    assert len(at) == 3 and at[-1] - at[0] > 0.6


def test_we_say_who_we_are(all_faults, web):
    assert all(agent.startswith("winnow-images/0.1 (+https://") for agent in web.agents)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/photo/1.jpg", "http://localhost:{}/photo/1.jpg", "http://[::1]:{}/photo/1.jpg",
        "http://2130706433:{}/photo/1.jpg", "http://0x7f.1:{}/photo/1.jpg", "http://[::ffff:127.0.0.1]:{}/photo/1.jpg",
        "http://0.0.0.0:{}/photo/1.jpg",
    ],
)  # fmt: skip
def test_a_loopback_address_is_refused_however_it_is_written(catalog, web, url):
    asked = web.requests.total()
    result = download(catalog, [(url.format(web.ports[0]), "a")], **{**QUICK, "allow_hosts": ()})
    assert list(result.reasons) in (["private address"], ["can't be reached"])
    assert web.requests.total() == asked


def test_only_the_open_internet_is_public():
    assert all(map(is_public, ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"]))
    private = "10.0.0.1 192.168.1.1 172.16.0.9 169.254.169.254 127.0.0.1 0.0.0.0 100.64.0.1 224.0.0.1 255.255.255.255"
    inner = "::1 fe80::1%eth0 fc00::1 ::ffff:10.0.0.1 64:ff9b::a00:1 2002:a00:1:: ff02::1"
    assert not any(map(is_public, f"{private} {inner}".split()))


def test_strange_addresses_are_rejections_and_stop_nobody(catalog, web):
    strange = [
        "ftp://example.org/a.jpg",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "http://",
        "",
        "http://[bad/a.jpg",
    ]
    result = download(catalog, [(url, "a") for url in strange] + [(web.url(3), "a")], **QUICK)
    assert result.images["a"] == 1 and result.reasons == {"bad address": len(strange)}


def test_without_a_network_every_address_waits(catalog, web):
    dead = [(f"http://127.0.0.1:{port}/photo/1.jpg", "a") for port in (1, 2, 3, 4)]
    with pytest.raises(NoNetwork, match="every address still waits"):
        download(catalog, dead, **QUICK, tries=1)
    assert report(catalog).waiting == 4 and catalog.rejections() == []
    result = download(catalog, [(web.url(3), "a")], **QUICK, tries=1)  # the network is back
    assert result.images["a"] == 1 and result.reasons == {"can't be reached": 4}


def test_a_class_that_can_not_be_a_folder_is_refused_before_anything_is_fetched(catalog, web):
    asked = web.requests.total()
    with pytest.raises(UnknownClass):
        download(catalog, [(web.url(3), "../up")], **QUICK)
    assert web.requests.total() == asked


def test_what_was_unticked_is_written_down_and_not_fetched(catalog, web):
    keep, leave = Found(url=web.url(3), label="a"), Found(url=web.url(4), label="a")
    result = download(catalog, [keep], unticked=[leave], **QUICK)
    assert result.images["a"] == 1 and result.reasons == {"unticked by hand": 1}
    assert download(catalog, [leave], **QUICK).images["a"] == 1


def test_the_origin_is_on_record(catalog, web):
    row = Found(
        url=web.url(3), label="a", page="https://p", creator="Ada", licence="CC0", query="bear", engine="x"
    )
    download(catalog, [row], **QUICK)
    origin = catalog.photos()[0].origin
    assert origin == {"url": row.url, "page": "https://p", "creator": "Ada", "licence": "CC0", "query": "bear",
                      "engine": "x"}  # fmt: skip


def test_a_shrunk_photo_keeps_the_originals_hash_and_size_on_record(catalog, web):
    download(catalog, [(web.url(3), "a"), (web.url(5, "transparent"), "a")], **QUICK, max_side=100)
    for photo in catalog.photos():
        assert max(photo.width, photo.height) == 100
        assert photo.origin["original_width"] == 320 and photo.path.endswith(".jpg")
    by_url = {photo.origin["url"]: photo.origin for photo in catalog.photos()}
    assert by_url[web.url(3)]["original_sha256"] == photos_sha(3)
    assert by_url[web.url(3)]["original_bytes"] == len(photos.photo(3))


def test_a_removed_photo_stays_out(catalog, web):
    download(catalog, [(web.url(3), "a"), (web.url(5), "a")], **QUICK)
    catalog.remove(next(p.path for p in catalog.photos() if p.origin["url"] == web.url(3)))
    catalog.apply()
    result = download(catalog, [(web.url(3) + "?again", "a")], **QUICK)
    assert result.reasons == {"removed before": 1} and len(catalog.photos()) == 1


WORK = """
import json, sys
from winnow.catalog import Catalog
from winnow.collect.download import download
rows, folder = json.loads(sys.argv[1]), sys.argv[2]
download(Catalog(folder), rows, allow_hosts=("127.0.0.1",), concurrency=4, stall=5, backoff=0.05)
"""


def test_after_kill_9_it_goes_on_and_fetches_nothing_twice(tmp_path):
    with Replica(4, latency=(0.02, 0.08)) as web:
        rows = [(web.url(number), "ab"[number % 2]) for number in range(60)]
        rows += [(web.url(number, "404"), "a") for number in range(60, 70)]
        for kill_at in (12, 30, 48):
            work = subprocess.Popen([sys.executable, "-c", WORK, json.dumps(rows), str(tmp_path / "data")])
            while work.poll() is None and web.requests.total() < kill_at + 4:
                time.sleep(0.002)
            os.kill(work.pid, signal.SIGKILL)
            work.wait()
        catalog = Catalog(tmp_path / "data")
        dealt_with = {photo.origin["url"] for photo in catalog.photos()} | {
            r.source for r in catalog.rejections()
        }
        asked = Counter(web.requests)
        result = download(catalog, [], **QUICK)
        twice = {
            path for path, count in web.requests.items() if count > asked[path] > 0 and "robots" not in path
        }
    assert 5 < len(dealt_with) < 70
    assert not {url for url in dealt_with if url.partition("127.0.0.1:")[2] in twice}
    assert dict(result.images) == {"a": 30, "b": 30} and result.reasons == {"not found": 10}
    assert len(catalog.photos()) == 60 and len(catalog.rejections()) == 10
    assert not list(catalog.cache.glob("downloads/*"))


def test_a_whole_file_that_was_not_taken_in_yet_needs_no_second_fetch(catalog, web):
    """What a kill between fetching and verifying leaves: the file, and its row as "fetched"."""
    url, data = web.url(3), photos.photo(3)
    ledger = Ledger(catalog.cache / "downloads.db")
    ledger.add([Found(url=url, label="a")])
    (catalog.cache / "downloads").mkdir()
    (catalog.cache / "downloads" / "1.bytes").write_bytes(data)
    ledger.fetched(ledger.job(url), photos_sha(3), len(data), url)
    ledger.close()
    asked = web.requests.total()
    assert download(catalog, **QUICK).images["a"] == 1
    assert web.requests.total() == asked and catalog.photos()[0].origin["url"] == url


CRASH = """
import json, os, signal, sys
from winnow import intake
from winnow.catalog import Catalog
from winnow.collect.download import download
intake.reached = lambda point: os.kill(os.getpid(), signal.SIGKILL) if point == sys.argv[3] else None
download(Catalog(sys.argv[2]), json.loads(sys.argv[1]), allow_hosts=("127.0.0.1",))
"""


@pytest.mark.parametrize("point", ["origin written", "file written"])
def test_a_crash_amid_a_batch_brings_no_photo_in_twice(tmp_path, web, point):
    rows = [(web.url(number), "ab"[number % 2]) for number in range(1, 9)]
    done = subprocess.run([sys.executable, "-c", CRASH, json.dumps(rows), str(tmp_path / "data"), point])
    assert done.returncode == -signal.SIGKILL
    catalog = Catalog(tmp_path / "data")
    result = download(catalog, **QUICK)
    assert dict(result.images) == {"a": 4, "b": 4} and result.waiting == 0
    files = list(catalog.folder.glob("[ab]/*"))
    assert len(files) == len(catalog.photos()) == 8
    assert {photo.origin["url"] for photo in catalog.photos()} == {url for url, _ in rows}


@pytest.mark.parametrize(
    "written, asked",
    [
        ("http://a.org/x%2Fy%7E.jpg?sig=a%2Bb%3D&q=1+2", "http://a.org/x%2Fy%7E.jpg?sig=a%2Bb%3D&q=1+2"),
        ("http://a.org/ein bär.jpg?t=ü", "http://a.org/ein%20b%C3%A4r.jpg?t=%C3%BC"),
        (" http://a.org ", "http://a.org"),
        ("https://bücher.example/a.jpg#top", "https://xn--bcher-kva.example/a.jpg"),
    ],
)
def test_an_address_is_asked_for_as_it_was_written(written, asked):
    assert str(address_of(written)).rstrip("/") == asked


def test_a_lost_ledger_is_made_up_from_the_catalog(catalog, web):
    rows = [(web.url(3), "a"), (web.url(4, "404"), "a")]
    download(catalog, rows, **QUICK)
    (catalog.cache / "downloads.db").unlink()
    asked = web.requests.total()
    result = download(catalog, rows, **QUICK)
    assert result.images["a"] == 1 and result.reasons == {"not found": 1}
    assert web.requests.total() == asked


def test_a_whole_file_that_got_lost_is_fetched_again(catalog, web):
    ledger = Ledger(catalog.cache / "downloads.db")
    ledger.add([Found(url=web.url(3), label="a")])
    ledger.fetched(ledger.job(web.url(3)), photos_sha(3), 1, web.url(3))
    ledger.close()
    assert download(catalog, **QUICK).images["a"] == 1


def test_a_second_download_into_the_same_dataset_is_refused(catalog, web):
    def start_another(done, total, note):
        with pytest.raises(DownloadRunning, match="wait for it"):
            download(catalog, [(web.url(4), "a")], **QUICK)

    assert download(catalog, [(web.url(3), "a")], progress=start_another, **QUICK).found["a"] == 1


def test_stopping_leaves_everything_so_that_it_can_go_on(catalog):
    with Replica(2, latency=(0.05, 0.1)) as web:
        rows = [(web.url(number), "a") for number in range(40)]

        def stop_early(done, total, note):
            if done >= 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            download(catalog, rows, progress=stop_early, **QUICK, concurrency=2)
        some = len(catalog.photos())
        result = download(catalog, **QUICK)
    assert 5 <= some < 40 and result.images["a"] == 40 and len(catalog.photos()) == 40


def test_stopping_ends_also_where_a_step_swallows_the_first_cancelling():
    """As asyncio's own timeouts do when their time is up in the same turn: with 3,000 addresses one always does."""

    async def swallow_once():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    async def stop() -> set:
        crew = Crew.__new__(Crew)
        crew._tasks, crew._failure, crew._room = set(), None, asyncio.Event()
        tasks = [crew._start(swallow_once()) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.wait_for(crew._dismiss(), timeout=10)
        return {task.cancelled() for task in tasks}

    with ThreadPoolExecutor(1) as pool:  # a browser test's loop may still run in this thread
        assert pool.submit(asyncio.run, stop()).result() == {True}


def test_the_progress_ends_at_the_total(catalog, web):
    seen = []
    download(
        catalog, [(web.url(n), "a") for n in range(8)], progress=lambda *step: seen.append(step), **QUICK
    )
    assert seen[-1] == (8, 8, "8 photos")


def test_top_up_searches_on_until_a_class_has_enough(catalog):
    from replica.engines import Engines

    with Replica(3) as web:

        def address(query, number):
            return web.url(number, "404" if number % 3 == 0 else "photo")

        with Engines(address) as engines:
            result = top_up(catalog, 20, classes=["bear"], search=engines.options, **QUICK)
            assert len(catalog.photos(label="bear")) == 20
            assert result.reasons["not found"] >= 5
            asked = web.requests.total()
            top_up(catalog, 20, search=engines.options, **QUICK)
            assert web.requests.total() == asked
            assert len(top_up(catalog, 24, search=engines.options, **QUICK).images) == 1
    assert len(catalog.photos(label="bear")) == 24


def test_a_host_is_named_without_its_password():
    assert host_of("http://me:secret@Example.org:81/a") == "example.org:81"
    assert host_of("http://[bad") == ""
