"""What lies in the cache folder is told apart, and nothing else than what was chosen is removed."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from tests.support.artefacts import made, rewrite

from nimbed._loading import cached as module
from nimbed._loading.cached import BEING_BUILT, Choice, cached, remove
from nimbed._loading.manifest import FORMAT, MANIFEST, RECIPE
from nimbed._loading.target_lock import target_lock
from nimbed.errors import ArtefactError

NAME = "some--model-openvino-int8-0123456789abcdef"
OTHER = "mine-native-int8-fedcba9876543210"


@pytest.fixture(autouse=True)
def artefacts(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "artefacts"
    folder.mkdir(parents=True)
    return folder


def artefact(folder, name=NAME, **changes):
    (folder / name).mkdir()
    return made(folder / name, **changes)


def only():
    (one,) = cached()
    return one


def test_an_artefact_that_opens(artefacts):
    folder = artefact(artefacts)
    one = only()
    assert (one.path, one.kind, one.fault, one.useless) == (folder, "artefact", "", False)
    assert (one.model, one.revision, one.engine, one.precision) == ("some/model", "abc", "openvino", "int8")
    assert (one.format, one.bytes) == (FORMAT, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()))
    assert abs(one.built - time.time()) < 3600


def test_when_it_was_used_is_told_before_it_is_looked_at(artefacts):
    folder = artefact(artefacts)
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000, 2_000_000))
    os.utime(folder / "model.bin", (3_000_000, 2_000_000))
    assert only().used == 3_000_000
    os.utime(folder / "model.bin", (2_000_000, 2_000_000))
    assert only().used is None


def damage(folder):
    (folder / "model.bin").write_bytes(b"short")


def lose(folder):
    (folder / MANIFEST).unlink()


def scribble(folder):
    (folder / MANIFEST).write_text("no json")


@pytest.mark.parametrize(
    ("spoil", "fault", "useless"),
    [
        (lambda f: rewrite(f, format=FORMAT - 1), f"format {FORMAT - 1} is older", True),
        (lambda f: rewrite(f, format=FORMAT + 1), f"format {FORMAT + 1} is newer", False),
        (lambda f: rewrite(f, recipe=RECIPE - 1), "a newer recipe", True),
        (lambda f: rewrite(f, recipe=RECIPE + 1), "", False),
        (damage, "model.bin has 5 bytes", True),
        (lose, "nimbed.json is missing", True),
        (scribble, "nimbed.json cannot be read as JSON", True),
    ],
)
def test_what_does_not_open(spoil, fault, useless, artefacts):
    spoil(artefact(artefacts))
    one = only()
    assert fault in one.fault
    assert bool(one.fault) == bool(fault)
    assert one.useless is useless
    assert str(artefacts) not in one.fault
    assert one.model == "some/model"


def test_an_engine_that_is_missing_may_be_installed(artefacts, monkeypatch):
    artefact(artefacts)
    monkeypatch.setattr(module, "version_of", lambda _: None)
    assert only().fault.startswith("openvino is not installed: pip install")
    assert not only().useless


def test_what_this_user_may_not_read_is_not_called_useless(artefacts, monkeypatch):
    artefact(artefacts)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert (only().fault, only().useless) == ("this user may not read it", False)


def test_a_refusal_counts_as_long_as_its_recipe_is_ours(artefacts):
    for recipe in ("", f".r{RECIPE - 1}", f".r{RECIPE}", f".r{RECIPE + 1}"):
        (artefacts / f"{NAME}{recipe}.refused").write_text("too far from fp32")
    found = {one.path.name: one for one in cached()}
    assert {one.kind for one in found.values()} == {"refusal"}
    useless = {name for name, one in found.items() if one.useless}
    assert useless == {f"{NAME}.refused", f"{NAME}.r{RECIPE - 1}.refused"}
    assert {one.model for one in found.values()} == {"some/model"}


@pytest.mark.parametrize("name", [f".{NAME}.a1_b2c3d.tmp", f".{NAME}.r9.refused.0123abcd.tmp"])
def test_what_a_build_left_is_useless_unless_it_is_at_it(name, artefacts):
    (artefacts / name).mkdir()
    (artefacts / name / "weights").write_bytes(b"x" * 100)
    with target_lock(artefacts / NAME):
        assert (only().fault, only().useless) == (BEING_BUILT, False)
        assert remove(replace(only(), useless=True)) == BEING_BUILT
    one = only()
    assert (one.kind, one.bytes, one.useless) == ("temporary", 100, True)
    assert remove(one) is None
    assert list(artefacts.iterdir()) == []


def test_what_is_unfinished_is_there_to_go_on_from_and_goes_on_request(artefacts):
    folder = artefacts / f"{NAME}.unfinished"
    folder.mkdir()
    (folder / "layer.0.piece").write_bytes(b"x" * 100)
    with target_lock(folder):
        assert (only().fault, only().useless) == (BEING_BUILT, False)
        assert remove(only()) == BEING_BUILT
    one = only()
    assert (one.kind, one.model, one.bytes, one.useless) == ("unfinished", "some/model", 100, True)
    assert "goes on from here" in one.fault
    with target_lock(artefacts / NAME):  # by a build of other inputs
        assert remove(one) is None
    assert list(artefacts.iterdir()) == []


def test_what_a_removal_of_it_left_is_useless(artefacts):
    (artefacts / f".{NAME}.unfinished.0123abcd.tmp").mkdir()
    assert (only().kind, only().useless) == ("temporary", True)


def test_the_rest_of_that_folder_is_not_ours(artefacts):
    for name in ("thesis.txt", "model", f"{NAME}0", f".{NAME}.tmp", "x-openvino-int8-XYZ"):
        (artefacts / name).write_text("dear")
    (artefacts / "sub" / NAME).mkdir(parents=True)
    (artefacts.parent / "torchscript").mkdir()
    (artefacts.parent / "torchscript" / ("0" * 64)).touch()
    assert cached() == []


def test_a_tuning_profile(artefacts):
    folder = artefacts.parent / "profiles"
    folder.mkdir()
    (folder / "0123456789abcdef.json").write_text("{}")
    (folder / "notes.json").write_text("{}")
    assert [(one.kind, one.path.name) for one in cached()] == [("profile", "0123456789abcdef.json")]
    assert remove(only()) is None
    assert [p.name for p in folder.iterdir()] == ["notes.json"]


def test_where_nothing_was_ever_built_there_is_nothing(artefacts):
    artefacts.rmdir()
    assert cached() == []


def test_a_file_in_the_folders_place_is_named(artefacts):
    artefacts.rmdir()
    artefacts.write_text("a file")
    with pytest.raises(ArtefactError, match=r"home cannot be read: .*NIMBED_HOME"):
        cached()


# Removing


def test_an_artefact_is_gone_whole(artefacts):
    artefact(artefacts)
    assert remove(only()) is None
    assert list(artefacts.iterdir()) == []


def test_of_a_link_the_link_is_removed(artefacts, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (artefacts / NAME).symlink_to(made(place))
    one = only()
    assert (one.model, one.bytes < 1000) == ("some/model", True)
    assert remove(one) is None
    assert list(artefacts.iterdir()) == []
    assert (place / MANIFEST).is_file()


@pytest.mark.parametrize("target", ["nowhere", "itself", "file/below"])
@pytest.mark.parametrize("name", [NAME, f"{NAME}.r{RECIPE}.refused", f".{NAME}.abcd1234.tmp"])
def test_a_link_that_leads_nowhere_is_called_so_and_removed(name, target, artefacts):
    (artefacts / "file").touch()
    (artefacts / name).symlink_to(name if target == "itself" else target)
    one = only()
    assert (one.fault, one.useless) == ("it is a link that leads nowhere", True)
    assert remove(one) is None
    assert not (artefacts / name).is_symlink()


def test_a_tuning_profile_may_be_such_a_link_too(artefacts):
    folder = artefacts.parent / "profiles"
    folder.mkdir()
    (folder / "0123456789abcdef.json").symlink_to("nowhere")
    assert only().useless
    assert remove(only()) is None
    assert list(folder.iterdir()) == []


def test_links_within_an_artefact_lead_nowhere(artefacts, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("dear")
    folder = artefact(artefacts)
    (folder / "notes").symlink_to(mine)
    (folder / "extra" / "thesis.txt").symlink_to(mine / "thesis.txt")
    assert remove(only()) is None
    assert (mine / "thesis.txt").read_text() == "dear"


def test_what_was_built_anew_meanwhile_stays(artefacts):
    folder = artefact(artefacts)
    damage(folder)
    seen = only()
    os.utime(folder, (1, 1))
    assert remove(seen) == "it was changed meanwhile"
    assert folder.is_dir()


def test_what_another_removed_is_no_fault(artefacts):
    artefact(artefacts)
    seen = only()
    assert remove(seen) is None
    assert remove(seen) is None


def test_what_cannot_be_removed_says_why(artefacts, monkeypatch):
    artefact(artefacts)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.shutil, "rmtree", refuse)
    assert "could not be removed: [Errno 13] Permission denied" in remove(only())
    monkeypatch.undo()


def test_what_vanishes_while_it_is_looked_at_is_not_there(artefacts, monkeypatch):
    artefact(artefacts)
    real = os.walk

    def walk(folder):
        yield from real(folder)
        yield str(folder), [], ["gone"]

    monkeypatch.setattr(module.os, "walk", walk)
    assert cached() == []


# Choosing


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        (Choice(), {"useless"}),
        (Choice(everything=True), {"useless", "old", "new", "used"}),
        (Choice(older_than_s=100.0), {"useless", "old"}),
        (Choice(model="some/model"), {"useless", "old"}),
        (Choice(model="model"), {"useless", "old"}),
        (Choice(model="mine"), {"new", "used"}),
        (Choice(model="mine", older_than_s=100.0), set()),
        (Choice(model="another", everything=True), set()),
    ],
)
def test_what_is_chosen(choice, taken, artefacts):
    artefact(artefacts)
    one = replace(only(), built=1000.0, used=None)
    mine = replace(one, model="mine")
    entries = {
        "useless": replace(one, built=1990.0, useless=True),
        "old": one,
        "new": replace(mine, built=1990.0),
        "used": replace(mine, used=1990.0),
    }
    assert {name for name, entry in entries.items() if choice.takes(entry, now=2000.0)} == taken
