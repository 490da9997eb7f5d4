"""Which tokens a language model answers with: the folder's word, or "yes" and "no" where they are tokens."""

from __future__ import annotations

import json

import pytest
from tests.support.qwen3_rerankers import answers_of, qwen_tokenizer

from nimbed._files.json import Fields
from nimbed._model_folder.answers import read_answers
from nimbed.errors import SpecError

CONFIG = Fields({"vocab_size": 1200}, "config.json")
LOGIT_SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"


def write(folder, *, words=("yes", "no"), place="1_LogitScore", **answers):
    content = {"model": {"vocab": {word: 7 + at for at, word in enumerate((*words, "y", "es", "n", "o"))}}}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    if answers:
        (folder / "modules.json").write_text(json.dumps([{"type": LOGIT_SCORE, "path": place}]))
        (folder / "1_LogitScore").mkdir()
        (folder / "1_LogitScore" / "config.json").write_text(json.dumps(answers))
    return folder


def test_yes_and_no_are_the_tokenizers(tmp_path):
    assert read_answers(write(tmp_path), CONFIG) == (7, 8)
    (tmp_path / "tokenizer.json").write_text(qwen_tokenizer())
    assert read_answers(tmp_path, CONFIG) == answers_of(tmp_path)


def test_an_added_token_may_be_an_answer(tmp_path):
    content = {"added_tokens": [{"id": 1199, "content": "yes"}], "model": {"vocab": [["no", -1.5]]}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(SpecError, match="'no' is no token of its own"):
        read_answers(tmp_path, CONFIG)
    content["model"]["vocab"] = {"no": 3, "yes": 4}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert read_answers(tmp_path, CONFIG) == (1199, 3)


@pytest.mark.parametrize("words", [("no",), ("yes",), ()])
def test_a_word_of_several_tokens_is_no_answer(words, tmp_path):
    missing = next(word for word in ("yes", "no") if word not in words)
    with pytest.raises(SpecError, match=rf"tokenizer\.json: model: '{missing}' is no token of its own"):
        read_answers(write(tmp_path, words=words), CONFIG)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"true_token_id": 3, "false_token_id": 4}, (3, 4)),
        ({"true_token_id": 3, "false_token_id": None}, (3,)),
        ({"true_token_id": 3, "module_input_name": "causal_logits"}, (3,)),
    ],
)
def test_the_folders_word_goes_before(answers, expected, tmp_path):
    assert read_answers(write(tmp_path, words=(), **answers), CONFIG) == expected


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"true_token_id": 1200}, r"1_LogitScore/config\.json: true_token_id"),
        ({"true_token_id": "yes"}, r"1_LogitScore/config\.json: true_token_id"),
        ({"false_token_id": 3}, r"1_LogitScore/config\.json: true_token_id"),
        ({"true_token_id": 3, "false_token_id": -1}, r"1_LogitScore/config\.json: false_token_id"),
        ({"true_token_id": 3, "module_input_name": "logits"}, r"1_LogitScore/config\.json: module_input_name"),
        ({"true_token_id": 3, "place": "../1_LogitScore"}, r"modules\.json: path"),
    ],
)
def test_answers_that_the_network_lacks_are_named(answers, says, tmp_path):
    with pytest.raises(SpecError, match=says):
        read_answers(write(tmp_path, **answers), CONFIG)
