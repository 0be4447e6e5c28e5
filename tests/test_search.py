"""Search: the real clients against a stand-in of the engines, and three outcomes that must never be confused."""

import pytest
from replica.engines import NOTHING, Engines

from winnow.collect.found import Blocked, Found, NothingFound, Offline
from winnow.collect.search import search_classes, search_images

TRICKY = "http://photos.example/a%20b%2Bc.jpg?id={}&name=x%26y"


@pytest.fixture
def engines():
    with Engines(lambda query, number: TRICKY.format(f"{number}-{len(query)}")) as engines:
        yield engines


def search(engines, query="bear", n=30, **options):
    return search_images(query, n, **{"timeout": 5, **engines.options, **options})


def test_the_first_source_is_enough_when_it_has_enough(engines):
    rows = search(engines)
    assert len(rows) == 30 and {row.engine for row in rows} == {"duckduckgo"}
    assert rows.notes == [] and engines.asked["openverse"] == 0


def test_an_address_stays_as_the_engine_wrote_it(engines):
    row = search(engines, n=1)[0]
    assert row.url == TRICKY.format("0-4")
    assert row.page == "https://site.example/page%200"
    assert row.title == "Picture 0 & more"
    assert (row.width, row.height, row.query) == (320, 240, "bear")


def test_more_than_a_page_is_paged_through_and_each_address_comes_once(engines):
    rows = search(engines, n=220)
    assert len({row.url for row in rows}) == 220
    assert {row.engine for row in rows} == {"duckduckgo"}


def test_too_few_are_made_up_by_the_next_source(engines):
    engines.each = 40
    rows = search(engines, n=100)
    assert [row.engine for row in rows] == ["duckduckgo"] * 40 + ["openverse"] * 40 + ["commons"] * 20


def test_safe_search_is_asked_for(engines):
    search(engines, n=1)
    search(engines, n=1, source="openverse")
    asked = {seen["engine"]: seen for seen in engines.seen}
    assert asked["duckduckgo"]["p"] == "1" and asked["openverse"]["mature"] == "false"


@pytest.mark.parametrize("mode", ["blocked", "challenge", "empty", "limited"])
def test_a_block_is_called_a_block(engines, mode):
    engines.mode["duckduckgo"] = mode
    with pytest.raises(Blocked, match="wait some minutes, or use another source"):
        search(engines, source="duckduckgo")


def test_nothing_found_is_told_from_a_block_by_a_second_common_query(engines):
    with pytest.raises(NothingFound, match="no picture"):
        search(engines, NOTHING, source="duckduckgo")
    assert [seen["q"] for seen in engines.seen if seen["path"] == "/i.js"] == [NOTHING, "cat"]


def test_no_network_is_called_offline(engines):
    for source in ("duckduckgo", "openverse", "commons"):
        with pytest.raises(Offline, match="can't be reached"):
            search(engines, source=source, proxy="http://127.0.0.1:9")
    with pytest.raises(Offline, match="work on with a folder of your own"):
        search(engines, proxy="http://127.0.0.1:9")


def test_an_engine_that_does_not_answer_in_time_is_offline(engines):
    engines.mode["duckduckgo"] = "slow"
    with pytest.raises(Offline, match="no answer within"):
        search(engines, source="duckduckgo", timeout=1)


@pytest.mark.parametrize("mode", ["blocked", "challenge", "empty", "fault"])
def test_a_source_that_fails_is_followed_by_the_next_and_says_why(engines, mode):
    engines.mode["duckduckgo"] = mode
    rows = search(engines)
    assert {row.engine for row in rows} == {"openverse", "commons"} or {row.engine for row in rows} == {
        "openverse"
    }
    assert len(rows) == 30 and "DuckDuckGo" in rows.notes[0]


def test_blocked_everywhere_and_nothing_anywhere_stay_different(engines):
    with pytest.raises(NothingFound, match="try other words"):
        search(engines, NOTHING)
    engines.mode.update(dict.fromkeys(engines.mode, "blocked"))
    with pytest.raises(Blocked):
        search(engines)


def test_openverse_tells_creator_and_licence(engines):
    row = search(engines, source="openverse", n=1)[0]
    assert row.creator == "Ada & Ben" and row.licence == "CC BY-SA 4.0"
    assert row.attribution.endswith("CC BY-SA 4.0.") and row.page == "https://flickr.example/0"


def test_openverse_is_left_in_peace_when_its_allowance_is_used_up(engines):
    engines.left = 3
    rows = search(engines, source=["openverse", "commons"], n=100)
    assert engines.asked["openverse"] == 3
    assert "allowance" in rows.notes[0] and len(rows) == 100


def test_a_refusal_says_when_to_try_again(engines):
    engines.mode["openverse"] = "limited"
    with pytest.raises(Blocked, match="in 30 seconds"):
        search(engines, source="openverse")


def test_commons_metadata_comes_without_its_html(engines):
    row = search(engines, source="commons", n=1)[0]
    assert row.creator == "Grace Hopper" and row.licence == "CC BY 3.0" and row.title == "Picture 0.jpg"


def test_our_name_and_contact_are_told(engines):
    search(engines, source="commons", n=1, contact="me@example.org")
    agent = engines.seen[-1]["agent"]
    assert agent.startswith("winnow-images/") and "me@example.org" in agent


def test_the_licence_filter_reaches_every_engine(engines):
    assert search(engines, n=1, licence="commercial")[0].licence == "filtered by ShareCommercially"
    search(engines, n=1, source="openverse", licence="commercial")
    public = search(engines, n=20, source="commons", licence="public")
    asked = {seen["engine"]: seen for seen in engines.seen if seen.get("q") or seen.get("gsrsearch")}
    assert "license:ShareCommercially" in asked["duckduckgo"]["f"]
    assert asked["openverse"]["license_type"] == "commercial"
    assert {row.licence for row in public} == {"CC0"}


def test_an_unknown_licence_or_source_is_refused_before_anything_is_asked(engines):
    with pytest.raises(ValueError, match="use one of any, open"):
        search(engines, licence="free")
    with pytest.raises(ValueError, match="use duckduckgo"):
        search(engines, source="bing")
    assert engines.seen == []


def test_each_class_is_searched_for_with_its_own_words(engines):
    rows = search_classes(["black bear", "teddy"], 5, template="{} photo", **engines.options)
    assert rows.counts() == {"black bear": 5, "teddy": 5}
    assert {row.query for row in rows} == {"black bear photo", "teddy photo"}


def test_a_class_without_pictures_is_a_note_and_the_others_stay(engines):
    rows = search_classes([NOTHING, "teddy"], 5, **engines.options)
    assert rows.counts() == {"teddy": 5}
    assert NOTHING in rows.notes[0]
    with pytest.raises(NothingFound):
        search_classes([NOTHING], 5, **engines.options)


def test_known_addresses_are_searched_past(engines):
    first = search(engines, n=10)
    more = search(engines, n=10, skip=[row.url for row in first])
    assert not {row.url for row in first} & {row.url for row in more}


def test_a_row_survives_being_written_down():
    row = Found(url="http://a/b?c=%2B", label="x", width=3, creator="Ä")
    assert Found.from_json(row.to_json()) == row
    assert row.origin() == {"url": "http://a/b?c=%2B", "creator": "Ä"}
