"""Peers that live in an environment of their own, each run there by a script beside this one."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from _peers import MAX_LENGTH, Embedding, Peer
from platformdirs import user_cache_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nimbed._types import Float32Array, Role

IPEX, CTRANSLATE2, FASTEMBED, LLAMA_CPP = "IPEX int8", "CTranslate2 int8", "fastembed fp32", "llama.cpp Q8_0"


class Home(NamedTuple):
    """Where a peer lives: an environment (``make NAME-env``), the package that must be there, and what runs it."""

    environment: str
    package: str
    worker: tuple[str, ...]

    @property
    def interpreter(self) -> str:
        """Python of the environment, whether it is there or not."""
        return str(user_cache_path("nimbed-env") / self.environment / "bin" / "python")

    @property
    def version(self) -> str | None:
        """Of the package; None where it is not installed."""
        ask = f"from importlib.metadata import version; print(version({self.package!r}))"
        try:
            found = subprocess.run([self.interpreter, "-c", ask], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return found.stdout.strip()


HOMES = {
    IPEX: Home("ipex", "intel-extension-for-pytorch", ("_ipex_worker.py",)),
    CTRANSLATE2: Home("peers", "ctranslate2", ("_peer_worker.py", "ctranslate2")),
    FASTEMBED: Home("peers", "fastembed", ("_peer_worker.py", "fastembed")),
    LLAMA_CPP: Home("peers", "llama-cpp-python", ("_peer_worker.py", "llama_cpp")),
}


@dataclass(frozen=True, kw_only=True)
class Apart(Peer):
    """A peer in a process of its own; pipes included. ``label`` is one of `HOMES`."""

    @contextlib.contextmanager
    def open(self, max_length: int | None) -> Iterator[Embedding]:
        here, home = Path(__file__).resolve(), HOMES[self.label]
        environment = {**os.environ, "PYTHONPATH": str(here.parents[1] / "src")}
        command = [home.interpreter, str(here.parent / home.worker[0]), *home.worker[1:]]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as worker:
            lock = threading.Lock()

            def embed(texts: Sequence[str], role: Role) -> Float32Array:
                with lock:
                    try:
                        pickle.dump((list(texts), role), worker.stdin)
                        worker.stdin.flush()
                        return pickle.load(worker.stdout)
                    except (EOFError, BrokenPipeError) as err:
                        raise RuntimeError(f"{self.label}: its process has ended; what it wrote says why") from err

            pickle.dump((self.folder, self.threads, max_length or MAX_LENGTH), worker.stdin)
            embed(["ready?"], "query")
            yield Embedding(embed)
            worker.stdin.close()


def installed(labels: Sequence[str], folder: str, threads: int) -> list[Apart]:
    """Those whose environment is there; of the others, how it is made is said on standard error."""
    found = []
    for label in labels:
        if HOMES[label].version:
            found.append(Apart(label=label, folder=folder, threads=threads))
        else:
            print(f"without {label}: not installed: make {HOMES[label].environment}-env", file=sys.stderr)
    return found


def versions(labels: Sequence[str]) -> dict[str, str]:
    """Of the packages that are installed."""
    return {HOMES[label].package: found for label in labels if (found := HOMES[label].version)}
