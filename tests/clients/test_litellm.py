"""LiteLLM as a proxy in front, and OpenAI's package through it."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.clients.conftest import KEY, ROOT
from tests.clients.texts import DOCUMENTS, QUERY, TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator

openai = pytest.importorskip("openai")
MASTER = "sk-of-the-proxy"
WAIT_S = 600.0  # it imports for long where other work goes on beside it


def config(url: str) -> str:
    """The proxy's settings as docs/server.md has them, for the models that are here."""
    page = (ROOT / "docs" / "server.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"```yaml\n(model_list:.*?)```", page, flags=re.DOTALL)
    return said.replace("http://nimbed:8080", url).replace("/bge", "/minilm").replace("/ranker", "/judge")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def proxy(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    for name in ("litellm", "fastapi", "apscheduler"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: the proxy is litellm[proxy]")
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    (folder / "config.yaml").write_text(config(url), encoding="utf-8")
    line = [str(Path(sys.executable).parent / "litellm"), "--config", "config.yaml", "--host", "127.0.0.1"]
    environment = {**os.environ, "NIMBED_API_KEY": KEY, "LITELLM_MASTER_KEY": MASTER}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*line, "--port", str(port)], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            if httpx.get(address).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(log.read_text(errors="replace"))


def test_openai_through_the_proxy(proxy, own):
    with openai.OpenAI(base_url=proxy, api_key=MASTER, max_retries=0) as client:
        for form in ("base64", "float"):
            answer = client.embeddings.create(input=TEXTS, model="bge", encoding_format=form)
            own.check([item.embedding if form == "float" else decoded(item.embedding) for item in answer.data])
        own.check([client.embeddings.create(input=TEXTS[0], model="bge").data[0].embedding], texts=1)
        with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
            client.embeddings.create(input=[[101, 102]], model="bge")


def decoded(value):
    import base64

    import numpy as np

    return np.frombuffer(base64.b64decode(value), "<f4") if isinstance(value, str) else value


def test_rerank_through_the_proxy(proxy, own):
    body = {"model": "ranker", "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
    answer = httpx.post(f"{proxy}/v1/rerank", json=body, headers={"Authorization": f"Bearer {MASTER}"}, timeout=60)
    assert answer.status_code == 200, answer.text
    found = answer.json()["results"]
    assert [one["index"] for one in found] == own.order[:3]
    assert [one["relevance_score"] for one in found] == pytest.approx(own.scores[own.order[:3]].tolist())
