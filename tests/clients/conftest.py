"""Servers as processes of their own, in nimbed's environment: the clients have another, where nimbed is not."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.clients.texts import TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("NIMBED_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
KEY = "0123456789abcdef-of-the-clients"
SOURCE = {"PYTHONPATH": str(ROOT)}
# No client may ask anybody else.
os.environ.update({"HAYSTACK_TELEMETRY_ENABLED": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1"})


@dataclass(frozen=True)
class Own:
    """What nimbed itself gives for the texts."""

    folders: dict[str, str]
    vectors: dict[str, np.ndarray]

    @property
    def scores(self) -> np.ndarray:
        return self.vectors["scores"]

    @property
    def order(self) -> list[int]:
        return np.argsort(-self.scores, kind="stable").tolist()

    def check(self, found: object, name: str = "minilm", texts: int = len(TEXTS)) -> None:
        """They are those of the encoder, bit for bit: JSON has as many digits as float32 needs."""
        assert np.array_equal(np.array(found, np.float32), self.vectors[name][:texts])


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    folder = tmp_path_factory.mktemp("models")
    line = [PYTHON, "-m", "tests.clients.made", str(folder)]
    done = subprocess.run(line, cwd=ROOT, env={**os.environ, **SOURCE}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "own.npz") as found:
        return Own(json.loads((folder / "folders.json").read_text(encoding="utf-8")), dict(found))


def serving(folder: Path, models: dict[str, str], **aliases: str) -> Iterator[str]:
    """``nimbed serve`` on a free port of this machine: its URL."""
    settings = folder / "server.toml"
    lines = [
        line
        for name, path in models.items()
        for line in ("[[models]]", f"name = {json.dumps(name)}", f"model = {json.dumps(path)}",
                     f'precision = "{"auto" if name == "minilm" else "fp32"}"')
    ]  # fmt: skip
    settings.write_text("\n".join(lines), encoding="utf-8")
    named = [part for name, model in aliases.items() for part in ("--alias", f"{name.replace('_', '-')}={model}")]
    line = [PYTHON, "-m", "nimbed", "serve", "--config", str(settings), *named, "--port", "0"]
    environment = {**os.environ, **SOURCE, "NIMBED_API_KEY": KEY, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment, text=True) as process:
        found = re.search(r"http://[0-9.]+:[0-9]+", process.stdout.readline() if process.stdout else "")
        assert found, "the server did not start; what it wrote says why"
        yield found[0]
        process.terminate()
        assert process.wait(60) == 0


@pytest.fixture(scope="session")
def url(own: Own, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MiniLM first, a model with prompts and a reranker beside it, and the names that platforms look for."""
    aliases = {"text_embedding_3_small": "minilm", "embed_documents": "e5", "embed_queries": "e5@query"}
    yield from serving(tmp_path_factory.mktemp("server"), own.folders, **aliases)


@pytest.fixture(scope="session")
def reranker_url(own: Own, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose first model is the reranker, as the clients of Text Embeddings Inference expect of one."""
    yield from serving(tmp_path_factory.mktemp("server"), {"judge": own.folders["judge"]})


@pytest.fixture(scope="session")
def model() -> str:
    """MiniLM's name there."""
    return "minilm"
