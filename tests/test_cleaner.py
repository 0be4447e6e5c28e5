"""The cleaner without its window: what the desk does, and the messages that the kernel answers."""

import io
import shutil
import sqlite3
import time
from types import SimpleNamespace

import pytest
from PIL import Image

from winnow.catalog import Catalog
from winnow.clean.cleaner import ImageClassifierCleaner, join_scripts
from winnow.clean.suspects import Suspect
from winnow.collect.sample import write_sample
from winnow.share.feedback import FeedbackBox, waiting
from winnow.share.prediction import Prediction


@pytest.fixture(scope="session")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "solar"
    write_sample(folder, limit=12).split()
    return folder


@pytest.fixture
def catalog(sample, tmp_path):
    shutil.copytree(sample, tmp_path / "solar")
    return Catalog(tmp_path / "solar")


def suspects_for(catalog, **changes):
    """Every photo suspect of being the other class, in the order of paths."""
    other = {"functional": "defective", "defective": "functional"}
    return [
        Suspect(p.path, p.label, other[p.label], 0.9 - i / 50, 0.9 - i / 50, "label", "because", **changes)
        for i, p in enumerate(catalog.photos())
    ]


@pytest.fixture
def cleaner(catalog):
    cleaner = ImageClassifierCleaner(catalog, suspects=suspects_for(catalog), by="ann")
    yield cleaner
    cleaner.close()


def ask(cleaner, type, **message):
    """The first answer to a message."""
    return next((reply for reply, _ in cleaner.answer({"type": type, **message})), None)


def decide(cleaner, path, action, **more):
    return ask(cleaner, "decide", choices=[{"path": path, "action": action, **more}])


def paths(cleaner):
    return [row["path"] for row in cleaner.desk.rows(0, 1000)]


def test_the_queue_starts_with_the_most_suspect_photo(cleaner):
    rows = ask(cleaner, "rows", version=cleaner.view["version"], start=0, stop=100)["rows"]
    scores = [row["score"] for row in rows]
    assert len(rows) == 12 and scores == sorted(scores, reverse=True)
    assert rows[0]["accept"] == {"action": "relabel", "label": rows[0]["suggested"]}


def test_delete_and_change_index_fns_as_in_fastai(cleaner):
    first, second, third = paths(cleaner)[:3]
    decide(cleaner, second, "remove")
    decide(cleaner, third, "relabel", label="functional")
    decide(cleaner, first, "keep")
    assert cleaner.delete() == [1]
    assert cleaner.change() == [(2, "functional")]
    assert [str(cleaner.fns[i]) for i in (0, 1)] == [str(cleaner.catalog.file(p)) for p in (first, second)]
    cleaner.label = "functional"
    assert cleaner.delete() == [] and cleaner.change() == []
    cleaner.label = ""
    assert cleaner.delete() == [1] and cleaner.change() == [(2, "functional")]


def test_menus_leave_only_their_class_and_split(cleaner):
    cleaner.label = "functional"
    cleaner.split = "valid"
    photos = cleaner.catalog.photos(label="functional", split="valid")
    assert sorted(paths(cleaner)) == [photo.path for photo in photos]
    assert cleaner.view["total"] == len(photos)


def test_a_new_cleaner_finds_the_choices_of_the_last_one(cleaner):
    path = paths(cleaner)[0]
    decide(cleaner, path, "remove")
    again = ImageClassifierCleaner(Catalog(cleaner.catalog.folder), suspects=cleaner.desk.suspects)
    assert again.delete() == [0] and again.progress["looked"] == 1
    again.close()


def test_apply_moves_the_files_and_the_list_follows(cleaner):
    path = next(p for p in paths(cleaner) if p.startswith("defective/"))
    decide(cleaner, path, "relabel", label="functional")
    reply = ask(cleaner, "apply")
    assert reply["moved"] == 1
    moved = path.replace("defective/", "functional/")
    assert cleaner.catalog.file(moved).exists() and moved in paths(cleaner) and path not in paths(cleaner)
    assert cleaner.desk.standing[moved].state == "applied"
    ask(cleaner, "undo")
    row = next(row for row in cleaner.desk.rows(0, 12) if row["path"] == path)
    assert (
        cleaner.catalog.file(path).exists() and row["decision"] is None and row["suggested"] == "functional"
    )


def test_code_written_for_fastai_may_move_the_files_itself(cleaner):
    first, second, third = paths(cleaner)[:3]
    decide(cleaner, first, "remove")
    decide(cleaner, second, "relabel", label="functional")
    decide(cleaner, third, "relabel", label="functional")
    for i in cleaner.delete():
        cleaner.fns[i].unlink()
    i, label = cleaner.change()[0]
    shutil.move(cleaner.fns[i], cleaner.catalog.folder / label)
    assert ask(cleaner, "apply")["type"] == "applied"
    assert sorted(path.name for path in (cleaner.catalog.folder / "functional").iterdir()) == sorted(
        p.split("/")[1] for p in paths(cleaner) if p.startswith("functional/")
    )
    assert first not in paths(cleaner) and third not in paths(cleaner) and cleaner.catalog.pending() == {}


def test_undo_takes_back_a_whole_selection_at_once(cleaner):
    chosen = paths(cleaner)[:5]
    decide(cleaner, paths(cleaner)[6], "keep")
    ask(cleaner, "decide", choices=[{"path": path, "action": "remove"} for path in chosen])
    assert len(cleaner.delete()) == 5
    assert ask(cleaner, "undo")["decisions"] == dict.fromkeys(chosen)
    assert cleaner.delete() == [] and len(cleaner.catalog.pending()) == 1


def test_a_choice_of_somebody_else_is_not_overwritten_unseen(cleaner):
    path = paths(cleaner)[0]
    theirs = Catalog(cleaner.catalog.folder).relabel(path, "functional", by="bob")
    reply = decide(cleaner, path, "remove", seen=None)
    assert "somebody else" in reply["text"] and reply["decisions"][path]["by"] == "bob"
    decide(cleaner, path, "remove", seen=theirs.id)
    assert cleaner.catalog.pending()[path].kind == "remove"


def test_choices_of_other_people_appear(cleaner):
    path = paths(cleaner)[3]
    assert ask(cleaner, "poll") is None
    Catalog(cleaner.catalog.folder).remove(path, by="bob")
    assert ask(cleaner, "poll")["decisions"][path]["by"] == "bob"


def test_a_learner_without_a_catalog_is_cleaned_in_its_folder(catalog):
    learn = SimpleNamespace(dls=SimpleNamespace(path=catalog.folder))
    cleaner = ImageClassifierCleaner(learn, suspects=[])
    assert len(cleaner.fns) == 12 and cleaner.catalog.folder == catalog.folder
    cleaner.close()


def test_thumbnails_come_in_the_background_and_are_kept_on_disk(cleaner):
    sent = []
    cleaner.send = lambda message, buffers=None: sent.append((message, buffers))
    list(cleaner.answer({"type": "thumbs", "paths": paths(cleaner)[:3]}))
    limit = time.monotonic() + 10
    while not sent and time.monotonic() < limit:
        time.sleep(0.01)
    message, buffers = sent[0]
    assert [item["path"] for item in message["items"]] == paths(cleaner)[:3]
    assert all(buffer[:2] == b"\xff\xd8" for buffer in buffers)
    assert len(list(cleaner.catalog.cache.rglob("thumbs*/*/*.jpg"))) == 3


def test_a_photo_that_broke_gets_a_sentence(cleaner):
    path = paths(cleaner)[0]
    cleaner.catalog.file(path).write_bytes(b"no image")
    reply = ask(cleaner, "picture", path=path, size="preview")
    assert "not an image" in reply["items"][0]["fault"]


def test_an_empty_folder_says_what_to_do(tmp_path):
    cleaner = ImageClassifierCleaner(tmp_path / "empty", suspects=[])
    assert "no photo" in cleaner.sorry and cleaner.view["total"] == 0
    cleaner.close()


def test_the_scripts_join_to_one_module_without_imports():
    text = join_scripts(["cleaner_dom.js", "cleaner_store.js", "cleaner.js"])
    assert "import {" not in text and text.count("export ") == 1 and "export default" in text


def test_undo_asks_before_it_takes_back_what_somebody_else_chose(cleaner):
    mine, theirs = paths(cleaner)[:2]
    decide(cleaner, mine, "remove")
    Catalog(cleaner.catalog.folder).remove(theirs, by="bob")
    reply = ask(cleaner, "undo")
    assert reply["type"] == "undo-asks" and "bob's" in reply["text"]
    assert len(cleaner.catalog.pending()) == 2
    assert ask(cleaner, "undo", anybody=True)["decisions"] == {theirs: None}
    assert ask(cleaner, "undo")["decisions"] == {mine: None}


def test_the_list_follows_files_that_another_process_moved(cleaner):
    path = next(p for p in paths(cleaner) if p.startswith("functional/"))
    other, version = Catalog(cleaner.catalog.folder), cleaner.view["version"]
    other.relabel(path, "defective", by="bob")
    other.apply()
    ask(cleaner, "poll")
    assert cleaner.view["version"] > version
    assert path.replace("functional/", "defective/") in paths(cleaner) and path not in paths(cleaner)


def test_a_refused_choice_says_why_and_loses_no_other(cleaner):
    first, second = paths(cleaner)[:2]
    choices = [{"path": first, "action": "remove"}, {"path": second, "action": "relabel", "label": "purple"}]
    reply = ask(cleaner, "decide", choices=choices)
    assert reply["type"] == "refused" and "purple" in reply["text"]
    assert reply["decisions"][first]["kind"] == "remove" and reply["decisions"][second] is None
    assert list(cleaner.catalog.pending()) == [first]
    ask(cleaner, "undo")
    assert cleaner.catalog.pending() == {}


def test_a_disk_that_refuses_is_said_and_the_choice_taken_off_the_screen(cleaner):
    path = paths(cleaner)[0]
    blocker = sqlite3.connect(cleaner.catalog.folder / "catalog.db")
    blocker.execute(
        "CREATE TRIGGER full BEFORE INSERT ON decisions BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    )
    blocker.commit()
    reply = decide(cleaner, path, "remove")
    assert reply["type"] == "refused" and "disk is full" in reply["text"]
    assert reply["decisions"] == {path: None} and reply["saved"] == 1


def test_a_photo_that_cannot_be_opened_is_a_row_with_a_sentence(catalog):
    (catalog.folder / "functional" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    catalog.sync()
    cleaner = ImageClassifierCleaner(catalog, suspects=suspects_for(catalog))
    row = cleaner.desk.rows(0, 1)[0]
    assert row["path"] == "functional/broken.png" and row["kind"] == "unreadable" and len(row["fault"]) > 20
    assert row["accept"] == {"action": "remove"} and "unreadable" in cleaner.kinds
    decide(cleaner, row["path"], "remove")
    assert ask(cleaner, "apply")["type"] == "applied"
    assert not (catalog.folder / "functional" / "broken.png").exists()
    cleaner.close()


def test_a_photo_with_two_suspicions_has_one_row_and_the_kind_menu_chooses(catalog):
    rows = suspects_for(catalog)
    path = rows[5].path
    copy = Suspect(path, rows[5].label, rows[5].label, 0.3, 0.0, "duplicate", "a copy of another", [])
    cleaner = ImageClassifierCleaner(catalog, suspects=[*rows, copy])
    assert cleaner.view["total"] == 12
    assert len(ask(cleaner, "detail", path=path)["reasons"]) == 2
    cleaner.kind = "duplicate"
    assert paths(cleaner) == [path]
    assert cleaner.desk.rows(0, 1)[0]["accept"] == {"action": "remove"}
    cleaner.close()


def test_a_further_target_is_cleaned_in_its_own_book(catalog):
    folders = ImageClassifierCleaner(catalog, suspects=[], by="ann")
    types = ImageClassifierCleaner(catalog, suspects=[], target="type", by="ann")
    decide(folders, paths(folders)[0], "remove")
    assert types.classes == ["mono", "poly"] and types.progress["looked"] == 0
    path = next(p for p in paths(types) if types.desk.label_of(p) == "mono")
    assert "class folders" in decide(types, path, "remove")["text"]
    decide(types, path, "relabel", label="poly")
    assert types.change() == [(paths(types).index(path), "poly")]
    assert catalog.photo(path).targets["type"] == "mono"
    again = ImageClassifierCleaner(Catalog(catalog.folder), suspects=[], target="type", by="ann")
    assert len(again.change()) == 1
    ask(again, "apply")
    assert catalog.photo(path).targets["type"] == "poly" and again.change() == []
    ask(again, "undo")
    assert catalog.photo(path).targets["type"] == "mono"
    assert [d.kind for d in catalog.pending().values()] == ["remove"]
    for cleaner in (folders, types, again):
        cleaner.close()


def test_the_target_menu_changes_labels_choices_and_ranking(cleaner):
    decide(cleaner, paths(cleaner)[0], "remove")
    cleaner.label = "functional"
    cleaner.target = "type"
    assert cleaner.classes == ["mono", "poly"] and cleaner.label == "" and cleaner.delete() == []
    wait_for(lambda: cleaner.desk.rows(0, 1)[0]["score"] is not None)
    cleaner.target = ""
    assert len(cleaner.delete()) == 1 and cleaner.desk.rows(0, 1)[0]["score"] is not None


def test_the_list_opens_unranked_and_is_ranked_in_the_background(catalog):
    cleaner = ImageClassifierCleaner(catalog)
    assert cleaner.view["total"] == 12 and cleaner.desk.rows(0, 1)[0]["score"] is None
    wait_for(lambda: cleaner.desk.rows(0, 1)[0]["score"] is not None and cleaner.estimate)
    scores = [row["score"] for row in cleaner.desk.rows(0, 12)]
    assert scores == sorted(scores, reverse=True) and cleaner.busy == ""
    decide(cleaner, paths(cleaner)[0], "remove")
    wait_for(lambda: "1 found" in cleaner.estimate["wrong"])
    cleaner.close()


def test_what_cannot_be_ranked_stays_usable(catalog):
    for path in (catalog.folder / "defective").iterdir():
        path.unlink()
    catalog.sync()
    cleaner = ImageClassifierCleaner(catalog)
    wait_for(lambda: cleaner.busy.startswith("Not ranked"))
    decide(cleaner, paths(cleaner)[0], "keep")
    assert len(catalog.pending()) == 1
    cleaner.close()


def turned(file):
    """A photo that the catalog doesn't hold: one of its own on its side."""
    buffer = io.BytesIO()
    Image.open(file).convert("RGB").transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def corrected(catalog, tmp_path):
    """The catalog with two photos of visitors: the app said functional, they say defective."""
    box, answer = (
        FeedbackBox(tmp_path / "box"),
        Prediction("functional", {"functional": 0.8, "defective": 0.2}),
    )
    for photo in catalog.photos(label="defective")[:2]:
        box.add(turned(catalog.file(photo.path)), label="defective", answer=answer, digest="abc")
    assert box.import_into(catalog) == 2
    return catalog


@pytest.fixture
def visited(corrected):
    cleaner = ImageClassifierCleaner(corrected, suspects=suspects_for(corrected), by="ann")
    cleaner.kind = "feedback"
    yield cleaner
    cleaner.close()


def reopened(catalog):
    cleaner = ImageClassifierCleaner(Catalog(catalog.folder), suspects=[], by="ann")
    cleaner.close()
    return cleaner


def test_a_visitors_photo_shows_the_apps_answer_and_the_visitors_label(visited):
    rows = ask(visited, "rows", version=visited.view["version"], start=0, stop=10)["rows"]
    assert len(rows) == 2 and "feedback" in visited.kinds
    row = rows[0]
    assert (row["label"], row["suggested"], row["kind"]) == ("functional", "defective", "feedback")
    assert row["reason"] == "A visitor says defective; the model said functional."
    assert row["accept"] == {"action": "relabel", "label": "defective"} and row["decision"] is None
    (reply, buffers) = next(visited.answer({"type": "picture", "path": row["path"], "size": "preview"}))
    assert reply["items"][0]["mime"] == "image/jpeg"
    assert buffers[0] == (visited.catalog.folder / row["path"]).read_bytes()
    assert visited._fetch_thumb(row["path"])[:2] == b"\xff\xd8"
    assert ask(visited, "detail", path=row["path"])["split"] is None
    visited.kind = ""
    assert visited.view["total"] == 14 and sum(visited.counts[label] for label in visited.classes) == 12


@pytest.mark.parametrize("label", ["defective", "functional"])
def test_a_label_takes_a_visitors_photo_in_and_says_where_it_came_from(visited, label):
    path, other = paths(visited)
    row = next(row for row in waiting(visited.catalog) if row.path == path)
    reply = decide(visited, path, "relabel", label=label)
    assert reply["decisions"][path]["after"] == label and reply["text"] == ""
    (added,) = [p for p in visited.catalog.photos() if p.origin.get("engine") == "feedback"]
    assert (
        added.path == f"{label}/feedback-{row.data['sha256'][:12]}.jpg" and added.sha256 == row.data["sha256"]
    )
    assert added.origin == {"engine": "feedback", "time": row.data["at"], "answer": row.data["answer"]}
    assert [row.path for row in waiting(visited.catalog)] == [other] and visited.catalog.history() == []
    again = paths(reopened(visited.catalog))
    assert path not in again and other in again and added.path in again


def test_keeping_a_visitors_photo_takes_it_in_as_the_app_said(visited):
    decide(visited, paths(visited)[0], "keep")
    assert len(waiting(visited.catalog)) == 1
    assert [p.label for p in visited.catalog.photos() if p.origin.get("engine") == "feedback"] == [
        "functional"
    ]


def test_a_refused_photo_of_a_visitor_stays_out_and_does_not_come_back(visited):
    path, other = paths(visited)
    reply = decide(visited, path, "remove")
    assert reply["decisions"][path]["kind"] == "remove" and len(visited.catalog) == 12
    (rejection,) = visited.catalog.rejections()
    assert (rejection.source, rejection.origin) == (path, {"engine": "feedback"})
    assert rejection.label == "defective"
    cleaner = reopened(visited.catalog)
    assert other in paths(cleaner) and path not in paths(cleaner)


def test_undo_says_that_a_visitors_photo_stays_and_then_takes_back_what_came_before(visited):
    visitors = paths(visited)[0]
    visited.kind = ""
    mine = next(path for path in paths(visited) if path not in visited.desk.visitors)
    decide(visited, mine, "remove")
    decide(visited, visitors, "relabel", label="defective")
    (added,) = [p.path for p in visited.catalog.photos() if p.origin.get("engine") == "feedback"]
    reply = ask(visited, "undo")
    assert reply["type"] == "refused" and f"remove {added} like any photo" in reply["text"]
    assert list(visited.catalog.pending()) == [mine] and added in paths(visited)
    assert ask(visited, "undo")["decisions"] == {mine: None}
    decide(visited, added, "remove")
    ask(visited, "apply")
    assert added not in paths(visited) and visitors not in paths(visited)
    assert visitors not in [row.path for row in waiting(visited.catalog)]


def test_undo_of_visitors_photos_says_so_also_after_the_list_was_made_anew(visited):
    first, second = paths(visited)
    decide(visited, first, "relabel", label="defective")
    decide(visited, second, "remove")
    ask(visited, "apply")
    visited.desk.load([])
    assert "was refused" in ask(visited, "undo")["text"]
    assert "in the dataset now" in ask(visited, "undo")["text"]
    assert ask(visited, "undo")["text"] == "Nothing to take back."


def test_several_visitors_photos_are_one_step(visited):
    chosen = paths(visited)
    ask(
        visited,
        "decide",
        choices=[{"path": path, "action": "relabel", "label": "defective"} for path in chosen],
    )
    assert len(visited.catalog) == 14 and "1 more" in ask(visited, "undo")["text"]
    assert ask(visited, "undo")["text"] == "Nothing to take back."


def test_a_visitors_photo_is_decided_once(visited):
    path, other = paths(visited)
    decide(visited, path, "relabel", label="defective")
    assert decide(visited, path, "relabel", label="defective")["type"] == "decided"
    reply = decide(visited, path, "remove")
    assert reply["type"] == "refused" and "in the dataset now" in reply["text"]
    assert reply["decisions"][path]["after"] == "defective" and visited.catalog.rejections() == []
    somebody = ImageClassifierCleaner(Catalog(visited.catalog.folder), suspects=[], by="bob")
    decide(somebody, other, "remove")
    somebody.close()
    assert "somebody else" in decide(visited, other, "relabel", label="defective")["text"]
    assert len(visited.catalog) == 13


def test_a_visitors_word_that_is_no_class_makes_no_folder(visited):
    path = paths(visited)[0]
    reply = decide(visited, path, "relabel", label="purple")
    assert reply["type"] == "refused" and "purple" in reply["text"] and reply["decisions"] == {path: None}
    assert visited.catalog.classes == ["defective", "functional"] and len(waiting(visited.catalog)) == 2


def test_a_visitors_photo_whose_file_is_gone_is_said_and_can_be_removed(visited):
    path = paths(visited)[0]
    (visited.catalog.folder / path).unlink()
    assert decide(visited, path, "relabel", label="defective")["type"] == "refused"
    assert decide(visited, path, "remove")["type"] == "decided" and len(waiting(visited.catalog)) == 1


def test_visitors_photos_are_never_accepted_in_bulk(visited):
    assert ask(visited, "above", threshold=0)["count"] == 0
    assert ask(visited, "accept", threshold=0)["decisions"] == {} and len(waiting(visited.catalog)) == 2


def wait_for(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it never came"
        time.sleep(0.02)
