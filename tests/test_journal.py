"""The decision journal: nothing is lost, nothing is applied twice, everything can be undone."""

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pictures import write_photos

from winnow import moves
from winnow.catalog import CannotMove, Catalog, NoSuchPhoto, UnknownClass
from winnow.images import sha256_of

POINTS = ["intended", "linked", "moved", "done", "undo intended", "folders removed"]


def tree(folder: Path) -> dict[str, str]:
    """Every file and folder but the catalog's own, with the hash of the bytes."""
    paths = [path for path in sorted(folder.rglob("*")) if ".winnow" not in path.parts]
    names = [path.relative_to(folder).as_posix() for path in paths if not path.name.startswith("catalog.db")]
    return {name: "folder" if (folder / name).is_dir() else sha256_of(folder / name) for name in names}


# -- choices --


def test_a_choice_is_in_the_journal_the_moment_it_is_made(photo_folder):
    Catalog(photo_folder).relabel("ant/0.png", "bee", by="Ann", why="it has wings")
    decision = Catalog(photo_folder).pending()["ant/0.png"]
    assert (decision.kind, decision.before, decision.after) == ("relabel", "ant", "bee")
    assert (decision.by, decision.why, decision.state) == ("Ann", "it has wings", "pending")


def test_choices_touch_no_file_until_they_are_applied(photo_folder):
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    catalog.relabel("ant/0.png", "bee")
    catalog.remove("ant/1.png")
    catalog.keep("ant/2.png")
    assert tree(photo_folder) == before
    applied = catalog.apply()
    assert applied.moved == [("ant/0.png", "bee/0-2.png")] and applied.removed == ["ant/1.png"]
    assert catalog.pending() == {}
    after = tree(photo_folder)
    assert after["bee/0-2.png"] == before["ant/0.png"] and after[".removed/ant/1.png"] == before["ant/1.png"]
    assert catalog.photo("bee/0-2.png").label == "bee"


def test_the_same_choice_twice_is_one_row(photo_folder):
    catalog = Catalog(photo_folder)
    first = catalog.relabel("ant/0.png", "bee")
    assert catalog.relabel("ant/0.png", "bee") == first
    catalog.keep("ant/1.png"), catalog.keep("ant/1.png")
    catalog.remove("ant/2.png"), catalog.remove("ant/2.png")
    assert len(catalog.history()) == 3


def test_a_later_choice_supersedes_and_undo_brings_the_earlier_one_back(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.relabel("ant/0.png", "bee")
    catalog.remove("ant/0.png")
    assert catalog.pending()["ant/0.png"].kind == "remove"
    assert [decision.state for decision in catalog.history()] == ["superseded", "pending"]
    catalog.undo()
    assert catalog.pending()["ant/0.png"].after == "bee"


def test_choosing_the_label_that_it_has_is_a_keep(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.relabel("ant/0.png", "bee")
    assert catalog.relabel("ant/0.png", "ant").kind == "keep"
    assert catalog.apply().moved == []
    assert catalog.history()[-1].state == "applied"


def test_a_strange_path_or_class_is_refused(photo_folder):
    catalog = Catalog(photo_folder)
    with pytest.raises(NoSuchPhoto, match="no photo of this dataset"):
        catalog.keep("ant/nowhere.png")
    with pytest.raises(UnknownClass, match="choose one of ant, bee, cat"):
        catalog.relabel("ant/0.png", "wasp")
    catalog.add_class("wasp")
    catalog.relabel("ant/0.png", "wasp")
    catalog.apply()
    assert catalog.photo("wasp/0.png").label == "wasp"


def test_a_choice_on_the_path_before_a_move_finds_the_photo(photo_folder):
    """Somebody else's screen still shows the old path."""
    catalog = Catalog(photo_folder)
    catalog.relabel("ant/0.png", "bee")
    catalog.apply()
    assert catalog.relabel("ant/0.png", "bee").state == "applied"
    assert catalog.relabel("ant/0.png", "cat").path == "bee/0-2.png"
    catalog.apply()
    assert "cat/0-2.png" in tree(photo_folder)


def test_an_unreadable_file_can_be_removed_and_comes_back_unreadable(photo_folder):
    (photo_folder / "ant/broken.png").write_bytes(b"no image")
    catalog = Catalog(photo_folder)
    catalog.remove("ant/broken.png")
    catalog.apply()
    assert catalog.sync().unreadable == []
    catalog.undo()
    assert catalog.sync().unreadable == ["ant/broken.png"]


def test_journal_rows_cannot_be_rewritten(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.keep("ant/0.png")
    catalog.apply()
    with sqlite3.connect(photo_folder / "catalog.db") as db:
        for statement in (
            "UPDATE decisions SET kind = 'remove'",
            "DELETE FROM decisions",
            "DELETE FROM steps",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="never rewritten"):
                db.execute(statement)


# -- moving and undoing --


def test_undo_brings_back_every_file_byte_for_byte(photo_folder):
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    for number in range(8):
        catalog.relabel(f"ant/{number}.png", "bee")
        catalog.remove(f"cat/{number}.png")
        if number % 3 == 0:
            catalog.apply()
    catalog.apply()
    undone = catalog.undo(5)
    assert [decision.state for decision in undone] == ["undone"] * 5
    assert [decision.path for decision in undone[:2]] == ["cat/7.png", "ant/7.png"]
    assert len(catalog.undo(1000)) == 11
    assert tree(photo_folder) == before
    assert {decision.state for decision in catalog.history()} == {"undone"}
    assert catalog.undo() == [] and catalog.undo(-1) == []


def test_a_collision_gets_a_new_name_and_the_old_one_on_the_way_back(photo_folder):
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    catalog.relabel("ant/0.png", "cat")
    catalog.relabel("bee/0.png", "cat")
    assert [new for _, new in catalog.apply().moved] == ["cat/0-2.png", "cat/0-3.png"]
    catalog.undo(2)
    assert tree(photo_folder) == before


def test_a_name_that_somebody_took_meanwhile_is_not_overwritten(photo_folder):
    catalog = Catalog(photo_folder)
    original = (photo_folder / "ant/0.png").read_bytes()
    catalog.relabel("ant/0.png", "bee")
    catalog.apply()
    (photo_folder / "ant/0.png").write_bytes(b"a stranger's file")
    catalog.undo()
    assert (photo_folder / "ant/0.png").read_bytes() == b"a stranger's file"
    assert (photo_folder / "ant/0-2.png").read_bytes() == original


def test_undo_after_the_user_took_the_file_away_goes_on(photo_folder):
    catalog = Catalog(photo_folder)
    catalog.relabel("ant/0.png", "bee")
    catalog.relabel("ant/1.png", "bee")
    catalog.apply()
    (photo_folder / "bee/1-2.png").unlink()
    assert len(catalog.undo(2)) == 2
    assert (photo_folder / "ant/0.png").exists()


def test_undo_follows_a_file_that_the_user_moved_by_hand(photo_folder):
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    catalog.relabel("ant/0.png", "bee")
    catalog.apply()
    (photo_folder / "bee/0-2.png").rename(photo_folder / "cat/by-hand.png")
    catalog.sync()
    catalog.undo()
    assert tree(photo_folder) == before


def test_a_disk_that_refuses_leaves_every_file_as_it_was(photo_folder, monkeypatch):
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    for number in range(4):
        catalog.relabel(f"ant/{number}.png", "bee")
    real = os.link

    def link(source, target):
        if str(source).endswith("ant/2.png"):
            raise PermissionError(13, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("a refusal is no reason to rename"))
    with pytest.raises(CannotMove, match="every file is back where it was"):
        catalog.apply()
    assert tree(photo_folder) == before and len(catalog.pending()) == 4
    monkeypatch.undo()
    assert len(catalog.apply().moved) == 4


def test_a_disk_without_hard_links_is_served_too(photo_folder, monkeypatch):
    def link(source, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", link)
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    catalog.relabel("ant/0.png", "bee")
    catalog.remove("ant/1.png")
    catalog.apply()
    assert "bee/0-2.png" in tree(photo_folder)
    catalog.undo(2)
    assert tree(photo_folder) == before


def test_files_in_deeper_folders_keep_their_place(photo_folder):
    (photo_folder / "ant/deep/er").mkdir(parents=True)
    shutil.move(photo_folder / "ant/0.png", photo_folder / "ant/deep/er/0.png")
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    catalog.relabel("ant/deep/er/0.png", "bee")
    assert catalog.apply().moved == [("ant/deep/er/0.png", "bee/deep/er/0.png")]
    catalog.undo()
    assert tree(photo_folder) == before


# -- crashes --

KILLED = """
import os, signal, sys
from winnow import moves
from winnow.catalog import Catalog
point, left, folder, verb = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
def reached(at):
    global left
    left -= at == point
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
moves.reached = reached
catalog = Catalog(folder)
catalog.apply() if verb == "apply" else catalog.undo(6)
"""


@pytest.mark.parametrize("point", ["intended", "linked", "moved", "done"])
def test_kill_9_while_applying_loses_nothing(photo_folder, point):
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    for number in range(3):
        catalog.relabel(f"ant/{number}.png", "bee")
        catalog.remove(f"cat/{number}.png")
    count = "1" if point == "intended" else "3"
    killed = subprocess.run([sys.executable, "-c", KILLED, point, count, photo_folder, "apply"])
    assert killed.returncode == -signal.SIGKILL
    catalog = Catalog(photo_folder)
    assert agrees(catalog)
    assert catalog.pending() == {} and Counter(d.state for d in catalog.history()) == {"applied": 6}
    assert Counter(tree(photo_folder).values())["folder"] == 5
    assert sorted(set(before.values())) == sorted(set(tree(photo_folder).values()))
    catalog.undo(6)
    assert tree(photo_folder) == before


@pytest.mark.parametrize("point", ["undo intended", "linked", "moved", "folders removed", "done"])
def test_kill_9_while_undoing_loses_nothing(photo_folder, point):
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    for number in range(3):
        catalog.relabel(f"ant/{number}.png", "bee")
        catalog.remove(f"cat/{number}.png")
    catalog.apply()
    killed = subprocess.run([sys.executable, "-c", KILLED, point, "3", photo_folder, "undo"])
    assert killed.returncode == -signal.SIGKILL
    catalog = Catalog(photo_folder)
    assert agrees(catalog)
    assert Counter(d.state for d in catalog.history()) == {"applied": 3, "undone": 3}
    catalog.undo(6)
    assert tree(photo_folder) == before


def test_a_stranger_on_the_intended_name_after_a_crash_is_not_overwritten(photo_folder, monkeypatch):
    catalog = Catalog(photo_folder)
    original = (photo_folder / "ant/0.png").read_bytes()
    catalog.relabel("ant/0.png", "bee")
    crash(monkeypatch, "intended", catalog.apply)
    (photo_folder / "bee/0-2.png").write_bytes(b"a stranger's file")
    Catalog(photo_folder)
    assert (photo_folder / "bee/0-2.png").read_bytes() == b"a stranger's file"
    assert original in [path.read_bytes() for path in (photo_folder / "bee").iterdir()]
    assert not (photo_folder / "ant/0.png").exists()


def test_a_file_that_vanished_after_a_crash_is_missing_and_the_rest_goes_on(photo_folder, monkeypatch):
    catalog = Catalog(photo_folder)
    catalog.relabel("ant/0.png", "bee")
    catalog.relabel("ant/1.png", "bee")
    crash(monkeypatch, "intended", catalog.apply)
    (photo_folder / "ant/0.png").unlink()
    catalog = Catalog(photo_folder)
    assert "bee/1-2.png" in {photo.path for photo in catalog.photos()}
    assert "ant/0.png" not in {photo.path for photo in catalog.photos()}


class Crash(BaseException):
    """Ends a verb where a kill would: no handler of ours catches it."""


def crash(monkeypatch, point: str, verb) -> None:
    def reached(at):
        if at == point:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(moves, "reached", reached)
        with pytest.raises(Crash):
            verb()


# -- several people --


def decide_and_apply(folder, seed: int) -> int:
    """One of several people at work on the same catalog."""
    draw, catalog = random.Random(seed), Catalog(folder)
    moved = 0
    for _ in range(6):
        for path in draw.sample([photo.path for photo in catalog.photos()], 5):
            try:
                catalog.relabel(path, draw.choice(catalog.classes), by=str(seed))
            except NoSuchPhoto:
                continue
        moved += len(catalog.apply().moved)
    return moved


def test_many_processes_apply_nothing_twice(photo_folder):
    catalog, before = Catalog(photo_folder), tree(photo_folder)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        moved = pool.starmap(decide_and_apply, [(photo_folder, seed) for seed in range(4)])
    applied = [d for d in catalog.history() if d.kind == "relabel" and d.state == "applied"]
    assert sum(moved) == len(applied) > 20
    assert agrees(catalog)
    catalog.undo(10_000)
    assert tree(photo_folder) == before


def test_two_people_on_the_same_photo_leave_one_choice_standing(photo_folder):
    catalog = Catalog(photo_folder)
    threads = [
        threading.Thread(target=catalog.relabel, args=("ant/0.png", label)) for label in ("bee", "cat") * 8
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(catalog.pending()) == 1
    assert len(catalog.apply().moved) == 1


def test_threads_that_apply_at_once_move_each_file_once(photo_folder):
    catalog = Catalog(photo_folder)
    for number in range(8):
        catalog.relabel(f"ant/{number}.png", "bee")
    results = []
    threads = [threading.Thread(target=lambda: results.extend(catalog.apply().moved)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == len(set(results)) == 8


# -- any sequence at all --


def agrees(catalog: Catalog) -> bool:
    """The tree and the journal tell the same story; raises if they don't."""
    on_disk = {name: sha for name, sha in tree(catalog.folder).items() if sha != "folder"}
    rows = catalog._db.execute(
        "SELECT path, sha256, label, state FROM files WHERE path IS NOT NULL"
    ).fetchall()
    assert {row["path"]: row["sha256"] for row in rows} == on_disk
    assert all((row["state"] == "removed") == row["path"].startswith(".removed/") for row in rows)
    assert all(row["label"] == row["path"].split("/")[0] for row in rows if row["state"] == "live")
    report = catalog.sync()
    assert not (report.added or report.missing or report.changed or report.moved)
    return True


class Reviewing(RuleBasedStateMachine):
    """Any order of choices, undo, apply, crashes and reopening, on real files."""

    folder: Path  # set by the test: an empty folder for each example

    @initialize(counts=st.tuples(*[st.integers(1, 4)] * 3))
    def adopt(self, counts):
        self.root = Path(self.make_folder())
        write_photos(self.root, dict(zip(("ant", "bee", "cat"), counts, strict=True)))
        shutil.copy(self.root / "ant/0.png", self.root / "bee/same.png")  # a conflict from the start
        self.first = tree(self.root)
        self.catalog = Catalog(self.root)
        self.choices: list[tuple] = []  # a model of what stands: (sha256, place, choice)

    def pick(self, data) -> str:
        return data.draw(st.sampled_from([photo.path for photo in self.catalog.photos()]))

    @precondition(lambda self: len(self.catalog))
    @rule(data=st.data(), label=st.sampled_from(["ant", "bee", "cat"]))
    def relabel(self, data, label):
        path = self.pick(data)
        self.catalog.relabel(path, label)
        waiting = self.catalog.pending().get(path)
        assert (waiting.after or waiting.before) == label if waiting else path.startswith(f"{label}/")

    @precondition(lambda self: len(self.catalog))
    @rule(data=st.data())
    def remove(self, data):
        path = self.pick(data)
        self.catalog.remove(path)
        assert self.catalog.pending()[path].kind == "remove"

    @precondition(lambda self: len(self.catalog))
    @rule(data=st.data())
    def keep(self, data):
        self.catalog.keep(self.pick(data))

    @rule(point=st.sampled_from([None, *POINTS]), after=st.integers(1, 4))
    def apply(self, point, after):
        wanted = {path: d for path, d in self.catalog.pending().items() if d.kind != "keep"}
        hashes = {path: self.catalog.photo(path).sha256 for path in wanted}
        crashed = self.crashing(point, after, self.catalog.apply)
        assert self.catalog.pending() == {}
        here = tree(self.root)
        for path, decision in wanted.items():
            place = ".removed/" if decision.kind == "remove" else f"{decision.after}/"
            assert any(name.startswith(place) for name, sha in here.items() if sha == hashes[path])
            assert path not in here or here[path] != hashes[path] or crashed is None

    @rule(steps=st.integers(1, 5), point=st.sampled_from([None, *POINTS]), after=st.integers(1, 4))
    def undo(self, steps, point, after):
        standing = [d for d in self.catalog.history() if d.state != "undone"]
        crashed = self.crashing(point, after, lambda: self.catalog.undo(steps))
        left = [d.id for d in self.catalog.history() if d.state != "undone"]
        assert left == [d.id for d in standing[: len(left)]]  # the newest went, in order
        assert crashed or len(left) == max(len(standing) - steps, 0)

    @rule()
    def reopen(self):
        self.catalog._store.close()
        self.catalog = Catalog(self.root)

    def crashing(self, point, after, verb) -> bool:
        """Run `verb`, crash at the `after`-th time it reaches `point`, open again; whether it crashed."""
        count, real = after, moves.reached

        def reached(at):
            nonlocal count
            count -= at == point
            if count == 0:
                raise Crash

        moves.reached = reached
        try:
            verb()
            return False
        except Crash:
            return True
        finally:
            moves.reached = real
            self.reopen()

    @invariant()
    def the_tree_and_the_journal_agree_and_no_byte_is_lost(self):
        if not hasattr(self, "catalog"):
            return
        assert agrees(self.catalog)
        bytes_now = Counter(sha for sha in tree(self.root).values() if sha != "folder")
        assert bytes_now == Counter(sha for sha in self.first.values() if sha != "folder")

    def teardown(self):
        if not hasattr(self, "catalog"):
            return
        rows = len(self.catalog.history())
        self.catalog.undo(10_000)
        assert tree(self.root) == self.first
        assert len(self.catalog.history()) == rows  # undoing rewrote nothing
        self.catalog._store.close()
        shutil.rmtree(self.root)


def test_any_sequence_of_choices_and_crashes_can_be_undone(tmp_path_factory):
    """`WINNOW_SEQUENCES=1000` runs a thousand, as `benchmarks/catalog.py --sequences 1000` does."""
    Reviewing.make_folder = staticmethod(lambda: tmp_path_factory.mktemp("review") / "photos")
    run_state_machine_as_test(
        Reviewing,
        settings=settings(
            max_examples=int(os.environ.get("WINNOW_SEQUENCES", "25")),
            stateful_step_count=20,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
