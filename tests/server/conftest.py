"""One application for all tests that only ask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.support.cross_encoders import write_cross_encoder
from tests.support.servers import client_of, fake_app
from tests.support.tiny_models import MODELS, write_model

from nimbed.server import Alias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import httpx

    from nimbed.server import App


@pytest.fixture(scope="session")
def torch() -> None:
    """Models are written with it; the environments of make test-oldest and test-newest have none."""
    pytest.importorskip("torch")


@pytest.fixture(scope="session")
def reranker_folder(torch: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("judges") / "judge")


@pytest.fixture(scope="session")
def prompted_folder(torch: None, tmp_path_factory: pytest.TempPathFactory, peps: list[str]) -> Path:
    """A tiny embedder with a prompt for each role."""
    kind = replace(MODELS["bert"], prompts={"query": "query: ", "document": "passage: "})
    return write_model(tmp_path_factory.mktemp("embedders") / "e5", kind, peps)


@pytest.fixture(scope="session")
def plain_folder(torch: None, tmp_path_factory: pytest.TempPathFactory, peps: list[str]) -> Path:
    """A tiny embedder whose vectors have any norm."""
    return write_model(tmp_path_factory.mktemp("embedders") / "plain", replace(MODELS["bert"], normalize=False), peps)


@pytest.fixture(scope="module")
def app(native: None, reranker_folder: Path) -> Iterator[App]:
    aliases = [Alias(name="text-embedding-3-small", model="m"), Alias(name="asks", model="m", role="query")]
    made = fake_app(reranker=reranker_folder, aliases=aliases)
    yield made
    made.close()


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as one:
        yield one
