"""`nimbed models`: every known model in a line, and all that is known of one."""

from __future__ import annotations

import pytest

from nimbed._model_folder.families import FAMILIES
from nimbed._model_folder.known_models import MODELS
from nimbed.cli import main
from nimbed.cli.models import pages


def said(capsys, *arguments: str) -> list[list[str]]:
    assert main(["models", *arguments]) == 0
    return [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line]


def test_every_model_has_a_line_with_its_licence(capsys):
    lines = dict(said(capsys))
    assert {model.name for model in MODELS} <= lines.keys()
    for model in MODELS:
        assert model.licence in lines[model.name]
        assert str(model.longest) in lines[model.name]
    assert lines["google/embeddinggemma-300m"].endswith("gated")


def test_of_one_all_is_said(capsys):
    lines = dict(said(capsys, "jina-embeddings-v3"))
    assert lines["licence"].startswith("CC BY-NC 4.0")
    assert lines["tasks"] == "retrieval, text-matching, classification, separation"
    assert lines["engine"] == "native: int8, fp32"
    assert lines["width"].startswith("1024, 768")


def test_a_family_is_found_by_its_name(capsys):
    lines = dict(said(capsys, "qwen3-embedding"))
    assert lines["tasks"] == "a sentence"
    assert lines["names"] == "Qwen3-Embedding-(0.6, 4, 8)B"


def test_an_unknown_name_says_what_to_do_instead(capsys):
    assert main(["models", "unheard-of"]) == 1
    assert "nimbed doctor MODEL" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "count"), [("models", len(MODELS)), ("families", len(FAMILIES))])
def test_the_pages_tables_are_whole(name, count):
    lines = pages()[name].splitlines()
    assert len(lines) == count + 2
    cells = {len(line.replace("\\|", "").split("|")) for line in lines}
    assert len(cells) == 1
