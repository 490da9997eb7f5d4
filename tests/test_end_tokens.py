"""The tokens around a text, which last-token models read: as transformers adds them, and there after a cut."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from nimbed import Encoder
from nimbed._text.tokenizer import TextTokenizer, load_tokenizer, save_tokenizer
from nimbed.errors import SpecError
from nimbed.spec import read_spec
from tests.support.described import change, cosine, written
from tests.support.networks import real_texts
from tests.support.oracles import oracle_vectors
from tests.support.qwen3_rerankers import qwen_tokenizer

END, START = "<|endoftext|>", "<|im_start|>"
# Names, the special tokens before and behind a text, by the post-processor alone.
FRAMES = {"none": ([], []), "end": ([], [END]), "both": ([START], [END])}
CLASSES = ("Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", None)
TEXTS = [*real_texts(3), "the cat sat", "a", " ", f"one {END} two", f"over{END}", "é 中文\n\n "]


def write(folder, frame, **settings):
    """A folder of Qwen3's with a tokenizer of its kind."""
    before, behind = FRAMES[frame]
    made = Tokenizer.from_str(qwen_tokenizer())
    steps = [processors.ByteLevel(trim_offsets=False)]
    if before or behind:
        single = " ".join([*before, "$A", *behind])
        named = [(name, made.token_to_id(name)) for name in (*before, *behind)]
        steps.append(processors.TemplateProcessing(single=single, pair=f"{single} $B:1", special_tokens=named))
    made.post_processor = processors.Sequence(steps) if steps[1:] else steps[0]
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": END, "pad_token": END, **settings}
    content = {key: value for key, value in said.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    if not (folder / "config.json").is_file():
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "vocab_size": 1200}))
    return folder


def ids_of(folder, longest):
    spec = read_spec(written("qwen3", folder.parent / "model"))
    made = TextTokenizer(load_tokenizer(folder), spec, max_length=longest, truncate="silent")
    return [ids.tolist() for ids in made(TEXTS).sequences]


def ids_of_transformers(folder, longest):
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(folder)
    return [reference(text, truncation=True, max_length=longest)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("longest", [6, 64])
@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("frame", FRAMES)
def test_ids_are_those_of_transformers_cut_or_not(frame, kind, longest, tmp_path):
    folder = write(tmp_path / "tokenizer", frame, tokenizer_class=kind)
    made = ids_of(folder, longest)
    assert made == ids_of_transformers(folder, longest)
    behind = [load_tokenizer(folder).token_to_id(name) for name in FRAMES[frame][1]]
    assert all(ids[len(ids) - len(behind) :] == behind for ids in made)
    assert any(len(ids) == longest for ids in made)


@pytest.mark.parametrize(
    "settings",
    [
        {"add_bos_token": False},
        {"add_eos_token": False},
        {"add_bos_token": False, "add_eos_token": True},
        {"add_eos_token": True, "padding_side": "left"},
        {"padding_side": "left"},
        {"padding_side": "right"},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["Qwen2Tokenizer", "PreTrainedTokenizerFast"])
def test_words_beside_a_tokenizer_that_adds_its_end_change_nothing(settings, kind, tmp_path):
    folder = write(tmp_path / "tokenizer", "end", tokenizer_class=kind, **settings)
    plain = write(tmp_path / "plain", "end")
    assert ids_of(folder, 6) == ids_of_transformers(folder, 6) == ids_of(plain, 6)


@pytest.mark.parametrize("kind", ["Qwen2Tokenizer", "PreTrainedTokenizerFast"])
def test_an_end_that_is_promised_and_not_there_is_refused(kind, tmp_path):
    """transformers 5 passes the word over; transformers 4 heeded it in some classes."""
    from transformers import AutoTokenizer

    folder = write(tmp_path / "tokenizer", "none", tokenizer_class=kind, add_eos_token=True)
    with pytest.raises(SpecError, match=r"tokenizer_config\.json: add_eos_token: true, but .*save_pretrained"):
        load_tokenizer(folder)
    expected = ids_of_transformers(folder, 6)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    assert ids_of(folder, 6) == expected


@pytest.mark.usefixtures("native", "one_torch_thread")
@pytest.mark.parametrize("frame", FRAMES)
def test_the_token_that_is_last_after_a_cut_is_pooled(frame, tmp_path):
    folder = write(written("qwen3", tmp_path / "model", variant="plain"), frame, padding_side="left")
    with Encoder(folder, backend="native", precision="fp32", max_length=9, truncate="silent") as encoder:
        found = encoder.encode(TEXTS)
    assert cosine(found, oracle_vectors(folder, ids_of_transformers(folder, 9))) >= 0.999999


def test_an_artefact_keeps_the_end(tmp_path):
    folder = write(tmp_path / "tokenizer", "end", extra_special_tokens=["<|new|>"])
    change(folder, vocab_size=1201)
    (tmp_path / "artefact").mkdir()
    save_tokenizer(folder, tmp_path / "artefact")
    kept = load_tokenizer(tmp_path / "artefact")
    np.testing.assert_array_equal(
        kept.encode("a <|new|>").ids[-2:], [kept.token_to_id("<|new|>"), kept.token_to_id(END)]
    )
