"""Texts, a model folder with prompts of its own, and an engine that waits for the event loop."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from pathlib import Path

import pytest

from nimbed.backends.fake import FakeSession

# A passage, and a question that shares hardly a word with it.
ANSWERS = {
    "The Eiffel Tower was finished in 1889 and stands on the Champ de Mars.": "When was the Paris landmark built?",
    "Photosynthesis turns sunlight, water and carbon dioxide into sugar.": "How do plants make their food?",
    "A mutex lets one thread at a time enter a critical section.": "How are data races between threads prevented?",
    "Sourdough rises because wild yeast gives off gas in the dough.": "Why does bread get bigger before baking?",
    "The Amazon carries more water to the sea than any other river.": "Which stream is the largest by flow?",
}


@pytest.fixture(scope="session")
def passages() -> list[str]:
    return list(ANSWERS)


@pytest.fixture(scope="session")
def prompted_folder(tmp_path_factory: pytest.TempPathFactory, minilm_folder: Path) -> Path:
    """all-MiniLM-L6-v2 whose folder names three prompts; of the same name, so that the same artefacts serve it."""
    folder = tmp_path_factory.mktemp("prompted") / minilm_folder.name
    shutil.copytree(minilm_folder, folder, copy_function=lambda source, target: Path(target).symlink_to(source))
    path = folder / "config_sentence_transformers.json"
    path.unlink()
    path.write_text(json.dumps({"prompts": {"query": "query: ", "passage": "passage: ", "sts": "same meaning: "}}))
    return folder


class HeldEngine:
    """Batches of the fake engine wait until :meth:`tick` has run to its end, which needs a free event loop."""

    def __init__(self) -> None:
        self.ticks = 0
        self.free = threading.Event()

    async def tick(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)
            self.ticks += 1
        self.free.set()


@pytest.fixture
def held_engine(monkeypatch: pytest.MonkeyPatch) -> HeldEngine:
    held = HeldEngine()
    run = FakeSession.run

    def wait_and_run(session, batch):
        assert held.free.wait(20), "the event loop stood still while the engine ran"
        return run(session, batch)

    monkeypatch.setattr(FakeSession, "run", wait_and_run)
    return held
