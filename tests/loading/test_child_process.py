"""Child processes: what they import, who may print, how they end, and with whom."""

from __future__ import annotations

import contextlib
import json
import multiprocessing.spawn
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nimbed import quantize
from nimbed._loading import child_process
from nimbed.bench import measure
from nimbed.errors import BackendError, BuildError
from nimbed.evaluate import Setting

NIMBED = Path(sys.executable).with_name("nimbed")
HOSTILE = ("random", "json", "numpy", "tempfile", "sitecustomize", "usercustomize", "_pyrepl", "tokenizers", "brotli")
posix = pytest.mark.skipif(os.name != "posix", reason="signals and shell scripts")


@pytest.fixture
def hostile(tiny_folder, tmp_path):
    """A model folder whose modules leave a mark where they are run."""
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n")
    return folder


def run(command, folder, **environment):
    values = {**os.environ, "NIMBED_HOME": str(folder.parent / "home"), **environment}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=values, capture_output=True, text=True, check=False)
    ran = folder.parent / "ran"
    assert not ran.exists(), ran.read_text()
    assert done.returncode == 0, done.stderr


def start(module, payload=b"", *, path=(), environment=os.environ):
    path = [*map(str, path), *child_process.import_path()]
    return child_process.started(sys.executable, module, payload, path=path, environment=environment, folder="/")


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Let a shell script stand for Python: one that does something, and runs it perhaps."""

    def write(text):
        script = tmp_path / "python3"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        monkeypatch.setattr(multiprocessing.spawn, "_python_exe", str(script))

    return write


def test_the_command_runs_nothing_of_the_model_folder(hostile):
    run([NIMBED, "quantize", ".", "-o", "../out", "--count", "4", "--force"], hostile, PYTHONPATH="")


def test_a_script_elsewhere_runs_nothing_of_the_model_folder(hostile, tmp_path):
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "embed.py"
    script.write_text("from nimbed import Encoder\nEncoder('.', backend='native').encode(['a text'])\n")
    run([sys.executable, script], hostile)


def test_python_m_runs_nothing_of_the_model_folder(hostile, tmp_path):
    (tmp_path / "texts.txt").write_text("a text\n")
    run([sys.executable, "-m", "nimbed", "embed", "../texts.txt", "-m", ".", "-o", "../out.npy"], hostile)


def test_a_fresh_process_of_the_bench_runs_nothing_of_the_current_folder(hostile, monkeypatch):
    monkeypatch.chdir(hostile)
    monkeypatch.setattr(sys, "path", ["", str(hostile), *sys.path])
    found = measure.fresh(Setting(model=".", backend="fake", name="tiny"), ["a text"], 32)
    assert found["first vector"] > 0
    assert not (hostile.parent / "ran").exists()


def test_the_import_path_is_handed_down(tmp_path, monkeypatch):
    for name in ("libraries", "current", "scripts", "model"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "scripts" / "main.py"), raising=False)
    own = [str(tmp_path / name) for name in ("scripts", "current", "model", "libraries")]
    monkeypatch.setattr(sys, "path", ["", ".", "../libraries/", *own, *sys.path])
    path = child_process.import_path([tmp_path / "model"])
    assert [Path(entry).resolve() for entry in path if entry.startswith(str(tmp_path))] == [tmp_path / "libraries"] * 2
    assert "" not in path


def test_nimbed_is_found_where_this_program_found_it(tmp_path, monkeypatch):
    """As in the folder of a function service, where handler and libraries lie together."""
    home = Path(child_process.__file__).parents[2]
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path)])
    assert child_process.import_path([home]) == [str(tmp_path), str(home)]
    monkeypatch.setattr(sys, "path", [str(home), str(tmp_path)])
    assert child_process.import_path() == [str(home), str(tmp_path)]


def test_a_folder_that_was_removed(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "path", ["", "relative", str(tmp_path)])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>", raising=False)  # as of `python - < script`
    assert str(tmp_path) in child_process.import_path()
    assert all(Path(entry).is_absolute() for entry in child_process.import_path())


@pytest.mark.parametrize("executable", [None, "", "/usr/sbin/httpd", "/usr/bin/uwsgi", "/no/such/python3"])
def test_an_embedded_interpreter_has_a_python_beside_it(executable, monkeypatch):
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", executable)
    assert Path(child_process.interpreter()).is_relative_to(sys.exec_prefix)
    for prefix in ("exec_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, prefix, "/no/such")
    assert child_process.interpreter() is None


@pytest.mark.parametrize("broken", [{"frozen": True}, {"executable": None}, {"executable": "/usr/sbin/httpd"}])
def test_without_an_interpreter_the_build_says_what_to_do(broken, tiny_folder, tmp_path, monkeypatch):
    for prefix in ("exec_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sys, prefix, "/no/such")
    for name, value in broken.items():
        monkeypatch.setattr(sys, name, value, raising=False)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", sys.executable)
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(BuildError, match=r"needs a Python interpreter.*nimbed quantize MODEL -o FOLDER"):
        quantize(tiny_folder, tmp_path / "out", progress=False)
    with pytest.raises(BackendError, match="interpreter"):
        measure.fresh(Setting(model=".", backend="fake", name="tiny"), ["a text"], 32)


@posix
def test_anybody_may_print(python, tiny_folder, tmp_path):
    python(f'echo "{{"; echo noise >&2; printf half; exec {sys.executable} "$@"')
    assert quantize(tiny_folder, tmp_path / "out", backend="native", force=True, progress=False).manifest.forced in {
        0,
        1,
    }


@posix
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "ended before it was done"),
        ("echo so it is; exit 3", "status 3:\nso it is"),
        ("kill -9 $$", "status -9 .killed by the system: too little memory"),
        ("exec /no/such/program", "status 12[67]"),
    ],
)
def test_every_failure_is_a_build_error(script, said, python, tiny_folder, tmp_path):
    python(script)
    with pytest.raises(BuildError, match=said):
        quantize(tiny_folder, tmp_path / "out", backend="native", progress=False)
    assert not (tmp_path / "out").exists()


@posix
def test_a_python_that_cannot_be_started(tiny_folder, tmp_path, monkeypatch):
    broken = tmp_path / "python3"
    broken.write_bytes(b"\x7fELF, no more")
    broken.chmod(stat.S_IRWXU)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", str(broken))
    with pytest.raises(BuildError, match=r"could not be run: .*nimbed quantize"):
        quantize(tiny_folder, tmp_path / "out", progress=False)


def test_another_python_is_refused():
    command = [sys.executable, "-I", "-c", child_process._PROGRAM]
    setup = json.dumps({"python": "cpython-27", "path": []}) + "\n"
    done = subprocess.run(command, input=setup, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the program runs on cpython-27" in done.stderr


SLEEPER = """
import os, time
def main(payload, report, began):
    report(pid=os.getpid(), cwd=os.getcwd(), payload=payload.decode())
    time.sleep(60)
    return 0
"""
PARENT = """
import os, sys, time
from nimbed._loading import child_process
with child_process.started(sys.executable, "sleeper", b"x" * 100_000, path=[{folder!r}, *child_process.import_path()],
                    environment=os.environ, folder=".") as child:
    pid = next(child.reports())["pid"]
    if {forks} and os.fork() == 0:
        time.sleep(60)
    print(pid, flush=True)
    time.sleep(60)
"""


@posix
@pytest.mark.parametrize("forks", [False, True])
def test_a_child_ends_with_its_parent(forks, tmp_path):
    """Killed, the parent can do nothing for it; a forked sibling holds the child's standard input open."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    script = PARENT.format(folder=str(tmp_path), forks=forks)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        try:
            parent.kill()
            parent.wait()
            until = time.monotonic() + 20
            while _runs(child) and time.monotonic() < until:
                time.sleep(0.05)
            assert not _runs(child)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


def _runs(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@posix
def test_a_child_that_nobody_waits_for_is_ended(tmp_path):
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    with contextlib.suppress(KeyboardInterrupt), start("sleeper", "für".encode(), path=[tmp_path]) as child:
        report = next(child.reports())
        raise KeyboardInterrupt
    assert child.process.returncode not in {0, None}
    assert (report["cwd"], report["payload"]) == ("/", "für")


TERMINATED = """
import os, signal, threading, time
def main(payload, report, began):
    threading.Thread(target=time.sleep, args=(60,)).start()
    os.kill(os.getpid(), signal.SIGINT)
    try:
        report(pid=os.getpid())
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        with open(payload.decode(), "w") as file:
            file.write("cleaned up")
"""


@posix
def test_a_child_that_is_ended_cleans_up_once_and_waits_for_no_thread(tmp_path):
    """Ctrl-C reaches it too, and is its parent's to hear."""
    (tmp_path / "ended.py").write_text(TERMINATED)
    mark = tmp_path / "mark"
    with start("ended", str(mark).encode(), path=[tmp_path]) as child:
        next(child.reports())
    assert child.process.returncode == 128 + signal.SIGTERM
    assert mark.read_text() == "cleaned up"


SPY = """
import sys
from nimbed.quantization.process import main as build
def main(payload, report, began):
    status = build(payload, report, began)
    report(kind="modules", names=sorted(sys.modules))
    return status
"""


def test_a_native_build_imports_neither_openvino_nor_torch(tiny_folder, tmp_path, monkeypatch):
    from nimbed._loading import build

    (tmp_path / "spy.py").write_text(SPY)
    started, seen = child_process.started, []

    @contextlib.contextmanager
    def spied(python, module, payload, *, path, environment, folder):
        path = [str(tmp_path), *path]
        with started(python, "spy", payload, path=path, environment=environment, folder=folder) as child:
            reports = child.reports
            object.__setattr__(child, "reports", lambda: (seen.append(r) or r for r in reports()))
            yield child

    monkeypatch.setattr(build.child_process, "started", spied)
    quantize(tiny_folder, tmp_path / "out", backend="native", force=True, progress=False)
    modules = {name.partition(".")[0] for name in next(r for r in seen if r["kind"] == "modules")["names"]}
    assert "numpy" in modules
    assert not modules & {"openvino", "nncf", "torch", "transformers", "optimum", "multiprocessing"}


FORKS = """
import os, sys
os.register_at_fork(before=lambda: open({mark!r}, "w").close())
from nimbed import Encoder, quantize
with Encoder(quantize({model!r}, precision="fp32", backend="openvino", progress=False)) as encoder:
    encoder.encode(["a text"])
    assert encoder.info.backend == "openvino"
assert "openvino" in sys.modules
"""


def test_openvino_sends_nothing_and_writes_nothing_home(tiny_onnx, tmp_path):
    """Its telemetry forks, and makes ~/intel, in the process that runs the model and in the one that builds it."""
    home, mark = tmp_path / "user", tmp_path / "forked"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "NIMBED_HOME": str(tmp_path / "home")}
    environment = {name: value for name, value in environment.items() if name not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    script = FORKS.format(mark=str(mark), model=str(tiny_onnx))
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)
    assert not mark.exists()
    assert list(home.iterdir()) == []


def test_a_build_without_a_console(tiny_folder, tmp_path, monkeypatch):
    """pythonw and windowed bundles have no standard error."""
    monkeypatch.setattr(sys, "stderr", None)
    assert quantize(tiny_folder, tmp_path / "out", backend="native", force=True).manifest.engine == "native"
