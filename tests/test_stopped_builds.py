"""Builds that are stopped or killed at any moment: no half artefact, no lock, and the same bytes once they go on."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from nimbed import Calibration
from nimbed._loading.artefact import open_artefact
from nimbed._loading.target_lock import target_lock
from tests.support import networks
from tests.support.building import build_here

pytestmark = [
    pytest.mark.usefixtures("native"),
    pytest.mark.skipif(os.name != "posix", reason="signals and process groups are POSIX's"),
]
TEXTS, LAYERS = 16, 6
QUANTIZE = ["-m", "nimbed", "quantize", "--backend", "native", "--count", str(TEXTS)]
ENCODER = """
import sys
from nimbed import Encoder
Encoder(sys.argv[1], backend="native", precision="int8").warm_up()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small, but its layers take a while each."""
    path = tmp_path_factory.mktemp("models") / "slow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(networks._TINY, "width", 192)
        patch.setitem(networks._TINY, "inner", 1536)
        return networks.write_folder("bert", path, layers=LAYERS, variant="drawn")


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """The digest of the artefact that nobody stopped."""
    made = build_here(
        folder, tmp_path_factory.mktemp("built") / "out", backend="native", calibration=Calibration(count=TEXTS)
    )
    return made.manifest.digest


@pytest.fixture
def artefacts(tmp_path):
    return tmp_path / "home" / "artefacts"


@pytest.fixture(autouse=True)
def hears_ctrl_c():
    """Children inherit a signal that is ignored, as a shell's background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start(tmp_path, folder):
    """Starts a build in a process group of its own, as a shell does."""
    started = []

    def run(*command):
        started.append(
            subprocess.Popen(
                [sys.executable, *command],
                env={**os.environ, "NIMBED_HOME": str(tmp_path / "home")},
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield run
    for one in started:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
        one.wait()
        one.stderr.close()


def wait_for_pieces(artefacts, run, name):
    until = time.monotonic() + 120
    while not list(artefacts.glob(f"*.unfinished/{name}")):
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.01)


def names(artefacts):
    return sorted(path.name for path in artefacts.iterdir())


@pytest.mark.parametrize("everybody", [True, False], ids=["as a terminal does", "the command alone"])
def test_ctrl_c_stops_a_build_and_says_how_to_go_on(
    everybody, start, artefacts, folder, undisturbed, monkeypatch, tmp_path
):
    run = start(*QUANTIZE, str(folder))
    wait_for_pieces(artefacts, run, "*layer.1.piece")
    (os.killpg if everybody else os.kill)(run.pid, signal.SIGINT)
    said = run.communicate()[1].splitlines()[-1]
    assert run.returncode == 128 + signal.SIGINT
    assert re.search(rf"building slow was stopped.*run it again: [1-{LAYERS}] of {LAYERS} layers are done$", said)
    (left,) = names(artefacts)
    assert left.endswith(".unfinished")
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))
    with target_lock(artefacts / left, wait=False) as work, target_lock(artefacts / left[:-11], wait=False) as target:
        assert (work, target) == (True, True)
    again = start(*QUANTIZE, str(folder))
    assert again.wait() == 0, again.stderr.read()
    (made,) = names(artefacts)
    assert open_artefact(artefacts / made).manifest.digest == undisturbed


def test_ctrl_c_while_an_encoder_builds(start, artefacts, folder):
    run = start("-c", ENCODER, str(folder))
    wait_for_pieces(artefacts, run, "*layer.0.piece")
    os.killpg(run.pid, signal.SIGINT)
    said = run.communicate()[1].splitlines()[-1]
    assert run.returncode == -signal.SIGINT
    assert re.match(rf"KeyboardInterrupt: building slow was stopped.*: [0-{LAYERS}] of {LAYERS} layers are done$", said)
    assert [name.endswith(".unfinished") for name in names(artefacts)] == [True]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_build_that_is_killed_at_any_moment_ends_as_if_it_never_was(seed, start, artefacts, folder, undisturbed):
    moments = random.Random(seed)
    for layer in sorted(moments.sample(range(LAYERS), 3)):
        run = start(*QUANTIZE, str(folder))
        wait_for_pieces(artefacts, run, f"*layer.{layer}.piece")
        time.sleep(moments.uniform(0, 0.3))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    again = start(*QUANTIZE, str(folder))
    assert again.wait() == 0, again.stderr.read()
    (made,) = names(artefacts)
    assert open_artefact(artefacts / made).manifest.digest == undisturbed


def test_the_same_build_for_two_targets_at_once(start, artefacts, folder, undisturbed, tmp_path):
    runs = [start(*QUANTIZE, str(folder), "-o", str(tmp_path / name)) for name in ("a", "b")]
    assert [run.wait() for run in runs] == [0, 0]
    assert {open_artefact(tmp_path / name).manifest.digest for name in ("a", "b")} == {undisturbed}
    assert names(artefacts) == []
