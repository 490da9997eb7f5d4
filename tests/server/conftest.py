"""One application for all tests that only ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nimbed.server import Alias
from tests.support.cross_encoders import write_cross_encoder
from tests.support.servers import client_of, fake_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import httpx

    from nimbed.server import App


@pytest.fixture(scope="session")
def reranker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cross_encoder(tmp_path_factory.mktemp("judges") / "judge")


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
