"""One builder at a time for a target; others may be built meanwhile."""

from __future__ import annotations

import pytest

from nimbed._loading.target_lock import target_lock
from nimbed.errors import ArtefactError


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_target_is_locked_while_it_is_held_and_others_are_not(home, tmp_path):
    import filelock

    with target_lock(tmp_path / "a"), target_lock(tmp_path / "b"):
        locks = list((home / "locks").iterdir())
        assert len(locks) == 2
        for path in locks:
            with pytest.raises(filelock.Timeout):
                filelock.FileLock(path).acquire(timeout=0)
    for path in locks:
        filelock.FileLock(path).acquire(timeout=0).lock.release()


def test_the_same_folder_by_another_path_is_the_same_lock(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with target_lock(tmp_path / "a"):
        pass
    with target_lock((tmp_path / "a").relative_to(tmp_path)):
        pass
    assert len(list((home / "locks").iterdir())) <= 1


def test_a_home_that_cannot_be_written_is_named(home, tmp_path):
    home.write_text("a file")
    with pytest.raises(ArtefactError, match=r"locks cannot be written: .*NIMBED_HOME"), target_lock(tmp_path / "a"):
        pass


def test_a_lock_that_is_not_waited_for(home, tmp_path):
    with target_lock(tmp_path / "a"):
        with target_lock(tmp_path / "a", wait=False) as held:
            assert not held
        with target_lock(tmp_path / "b", wait=False) as held:
            assert held
    with target_lock(tmp_path / "a", wait=False) as held:
        assert held
