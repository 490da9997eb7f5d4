"""Users without a home folder, as in containers and under service managers: errors of nimbed's, or none at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nimbed import Encoder, quantize
from nimbed._files.user_paths import expanded, home, write_whole
from nimbed._loading.hub import Source, resolve
from nimbed.bench import contenders
from nimbed.cli import main
from nimbed.errors import ArtefactError, InputError
from nimbed.guard import guard

pytestmark = pytest.mark.skipif(os.name != "posix", reason="homes come from elsewhere")


@pytest.fixture
def homeless(monkeypatch, tmp_path):
    """HOME is not set, and the system's table of users does not have this one."""

    def unknown(user):
        raise KeyError(user)

    for name in ("HOME", "NIMBED_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("chosen", [None, "~/artefacts"])
def test_building_says_what_to_set(chosen, homeless, tiny_folder, monkeypatch):
    if chosen:
        monkeypatch.setenv("NIMBED_HOME", chosen)
    with pytest.raises(ArtefactError, match="home folder is not known: set NIMBED_HOME"):
        Encoder(tiny_folder)
    with pytest.raises(ArtefactError, match="NIMBED_HOME"):
        quantize(tiny_folder, "out", progress=False)


def test_older_platformdirs_give_a_relative_folder(homeless, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/nimbed")
    with pytest.raises(ArtefactError, match="NIMBED_HOME"):
        home()


def test_an_artefact_is_opened_and_built_all_the_same(homeless, tiny_folder, tmp_path, monkeypatch):
    from nimbed._loading import build

    child, given = build.child_process, []
    started = child.started
    monkeypatch.setattr(child, "started", lambda *a, **k: given.append(k["environment"]) or started(*a, **k))
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "artefacts"))
    made = quantize(tiny_folder, tmp_path / "out", backend="native", force=True, progress=False)
    assert given[0]["HOME"] == str(tmp_path / "artefacts")  # NNCF needs one
    monkeypatch.delenv("NIMBED_HOME")
    with Encoder(made) as encoder:
        assert np.isfinite(encoder.encode(["a text"])).all()


def test_the_doctor_says_it(homeless, capsys):
    assert main(["doctor"]) == 0
    assert "home folder is not known: set NIMBED_HOME" in capsys.readouterr().out


@pytest.mark.parametrize(
    "call",
    [
        lambda _: Encoder("~/model"),
        lambda _: Encoder("~/model", backend="fake"),
        lambda _: quantize("~/model"),
        lambda folder: quantize(folder, "~/out", backend="openvino"),
        lambda _: guard(Encoder("any", backend="fake"), "~/index.json"),
        lambda _: contenders.own_contenders(["~/model"]),
        lambda _: expanded("~nobody-of-this-name/model"),
        lambda _: resolve("some/model", Source(cache_folder="~/cache")),
        lambda _: resolve("some/model", Source(cache_folder="~/cache", local_files_only=True)),
    ],
)
def test_a_tilde_that_nobody_can_fill_in(call, homeless, monkeypatch, tiny_folder):
    with pytest.raises(InputError, match=r"~.*: ~ stands for a home folder that is not known here; "):
        call(tiny_folder)


@pytest.mark.parametrize("offline", [True, False])
def test_the_hubs_cache_says_what_to_set(offline, homeless, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "~/.cache/huggingface/hub")
    with pytest.raises(InputError, match=r"~/\.cache/huggingface/hub: .*set HF_HOME, or Source\(cache_folder"):
        resolve("some/model", Source(local_files_only=offline))


def test_the_place_stays_where_it_was(monkeypatch, tmp_path):
    """Programs change their folder; and a build has one of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIMBED_HOME", "relative")
    assert home() == Path(tmp_path / "relative")


def test_two_writers_and_a_full_disk_leave_one_whole_file(tmp_path, monkeypatch):
    path, replace = tmp_path / "file.json", Path.replace

    def meanwhile(temporary, target):
        monkeypatch.setattr(Path, "replace", replace)
        write_whole(path, "theirs")
        assert path.read_text() == "theirs"
        return replace(temporary, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    write_whole(path, "mine")
    assert path.read_text() == "mine"
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        write_whole(path, "too much")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
