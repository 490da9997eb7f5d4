"""nimbed's own code in another Python process, which trusts nothing around it.

The child is isolated (``python -I``). It imports from where this program imports, but for the current folder and the
script's, where a stranger's model may lie with a ``random.py`` in it. Its reports have a pipe of their own, so that
everybody may print. It ends with this process, whose end closes its standard input.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import FrameType

# Nothing that the current folder could replace is imported before the path is set: -I leaves that folder out.
_PROGRAM = """
import sys, time
began = time.perf_counter()
import json
setup = json.loads(sys.stdin.buffer.readline())
if setup["python"] != sys.implementation.cache_tag:
    sys.exit(f"{sys.executable} is {sys.implementation.cache_tag}, the program runs on {setup['python']}")
sys.path[:] = setup["path"]
from nimbed._loading.child_process import serve
sys.exit(serve(setup, began))
"""
_PYTHON = re.compile(r"(python|pypy|graalpy)[\d.]*[a-z]?(\.exe)?", re.IGNORECASE)
_TAIL_BYTES = 2000
_PATIENCE_S = 10.0


class Report(Protocol):
    """Hands a record of JSON values to the parent."""

    def __call__(self, **record: object) -> None: ...


@dataclass(frozen=True)
class Child:
    """A process that runs."""

    process: subprocess.Popen[bytes]
    _channel: IO[bytes]
    _log: IO[bytes]

    def reports(self) -> Iterator[dict[str, Any]]:
        """What it reports, until it has ended."""
        rest = b""
        while piece := _read(self._channel):
            *lines, rest = (rest + piece).split(b"\n")  # the last one is cut where a child was killed
            yield from map(json.loads, lines)

    def fault(self) -> str | None:
        """How it ended, with the last that it wrote; None where all went well."""
        if (status := self.process.wait()) == 0:
            return None
        why = " (killed by the system: too little memory?)" if status == -getattr(signal, "SIGKILL", 9) else ""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return f"ended with status {status}{why}:\n{self._log.read().decode(errors='replace')}"


def _read(channel: IO[bytes]) -> bytes:
    """What has come; gevent lets others run in a selector alone."""
    if os.name == "posix":
        with selectors.DefaultSelector() as selector:
            selector.register(channel, selectors.EVENT_READ)
            selector.select()
    return os.read(channel.fileno(), 1 << 16)


def interpreter() -> str | None:
    """A Python like this one; None where there is none: in a frozen program, or in one that embeds Python alone.

    ``sys.executable`` may be any program: PyInstaller's or uWSGI's would start itself.
    """
    if getattr(sys, "frozen", False):
        return None
    spawn = sys.modules.get("multiprocessing.spawn")
    chosen = spawn.get_executable() if spawn else None  # hosts that embed Python say it by set_executable
    version = "{}.{}".format(*sys.version_info)
    here = ("python.exe",) if os.name == "nt" else (f"bin/python{version}", "bin/python3")
    likely = [Path(prefix, name) for prefix in (sys.exec_prefix, sys.base_exec_prefix) for name in here]
    found = [Path(os.fsdecode(chosen or "")), Path(sys.executable or ""), *likely]
    return next((str(f) for f in found if _PYTHON.fullmatch(f.name) and os.path.isfile(f)), None)  # noqa: PTH113 (it does not raise)


def import_path(barred: Iterable[Path] = (), modules: Iterable[str] = ()) -> list[str]:
    """This program's import path without the current folder, the script's and those that are barred.

    The folders that nimbed and ``modules`` were imported from stay, or come last: their code runs here already.
    """
    avoided = {folder.resolve() for folder in barred}
    current = None
    with contextlib.suppress(OSError):  # it may have been removed
        current = Path.cwd()
        avoided.add(current)
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if script:
        script = Path(current or "", script)
        if script.is_absolute():  # without a current folder "<stdin>" has no place either
            avoided |= {script.parent.resolve(), script.resolve().parent}
    homes = [home for name in ("nimbed", *modules) if (home := _home_of(name))]
    trusted = {home.resolve() for home in homes}
    entries = [Path(current or "", entry) for entry in sys.path if isinstance(entry, str) and entry]
    kept = [e for e in entries if e.is_absolute() and (e.resolve() not in avoided or e.resolve() in trusted)]
    return list(dict.fromkeys(map(str, [*kept, *homes])))


def _home_of(module: str) -> Path | None:
    """The folder on the import path that a module's top package was found in."""
    top = sys.modules.get(module.partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is None or module == "__main__":
        return None
    return Path(file).absolute().parents[1 if hasattr(top, "__path__") else 0]


@contextlib.contextmanager
def started(
    python: str, module: str, payload: bytes, *, path: Sequence[str], environment: Mapping[str, str], folder: str
) -> Iterator[Child]:
    """A child that runs ``main(payload, report, began)`` of a module, in a folder; left behind, it is ended.

    Raises:
        OSError: it could not be started.
    """
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        ours, theirs = os.pipe()
        channel = stack.enter_context(os.fdopen(ours, "rb"))
        with os.fdopen(theirs, "wb"):
            number, words = _handed_down(theirs)
            command = [python, "-I", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _PROGRAM]
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, cwd=folder, **words
            )
        stack.callback(_end, process)
        setup = {
            "python": sys.implementation.cache_tag,
            "path": list(path),
            "module": module,
            "channel": number,
            "parent": os.getpid(),
            "bytes": len(payload),
        }
        with contextlib.suppress(BrokenPipeError):  # then its log says why
            assert process.stdin is not None  # noqa: S101 (opened as a pipe above)
            process.stdin.write(json.dumps(setup).encode() + b"\n" + payload)
            process.stdin.flush()
        yield Child(process, channel, log)


def _handed_down(descriptor: int) -> tuple[int, dict[str, Any]]:
    """The number by which a child knows the pipe's end, and what Popen must be told."""
    if sys.platform == "win32":
        import msvcrt

        handle = msvcrt.get_osfhandle(descriptor)
        os.set_handle_inheritable(handle, True)
        return handle, {"startupinfo": subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})}
    return descriptor, {"pass_fds": (descriptor,)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it clean up, but not for long."""
    with contextlib.suppress(OSError):
        assert process.stdin is not None  # noqa: S101 (opened as a pipe)
        process.stdin.close()
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
    finally:
        process.kill()
        process.wait()


def serve(setup: Mapping[str, Any], began: float) -> int:
    """The child's side of :func:`started`."""
    number: int = setup["channel"]
    if sys.platform == "win32":
        import msvcrt

        number = msvcrt.open_osfhandle(number, os.O_WRONLY)
    else:
        os.set_inheritable(number, False)
    # A terminated child cleans up after itself like a failed one. Ctrl-C reaches it too: its parent says what is meant.
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    payload = sys.stdin.buffer.read(setup["bytes"])
    threading.Thread(target=_end_with, args=(setup["parent"],), daemon=True).start()
    with os.fdopen(number, "w", encoding="utf-8") as channel:

        def report(**record: object) -> None:
            channel.write(json.dumps(record) + "\n")
            channel.flush()

        try:
            status: int = import_module(setup["module"]).main(payload, report, began)
        except _Terminated:
            os._exit(128 + signal.SIGTERM)  # threads may be deep in a library, and are not waited for
    return status


def _end_with(parent: int) -> None:
    """Wait for the parent's end; forked siblings may hold its end of standard input open, so it is also asked for."""
    if sys.platform == "win32":
        os.read(0, 1)
    else:
        while os.getppid() == parent and not select.select([0], [], [], 1.0)[0]:
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE_S)
    os._exit(1)  # the main thread is deep in a library


class _Terminated(BaseException):
    """Somebody asked for the end."""


def _terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signal module's form)
    signal.signal(signum, signal.SIG_IGN)  # once is enough, and cleaning up is not disturbed
    raise _Terminated
