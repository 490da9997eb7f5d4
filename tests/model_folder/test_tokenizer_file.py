"""tokenizer.json with the words of the files beside it: each applied, or refused by name."""

from __future__ import annotations

import json

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from nimbed._model_folder.tokenizer_file import frame_of, lay_over
from nimbed.errors import SpecError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "Cat", "café", "cafe", "sat"]


def word_pieces() -> Tokenizer:
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(VOCABULARY[:5])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def laid(folder, *, network=None, added=None, **config):
    """The tiny BERT tokenizer with these words beside it."""
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 100, **(network or {})}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **config}))
    if added is not None:
        (folder / "added_tokens.json").write_text(json.dumps(added))
    return lay_over(word_pieces(), folder)


def tokens(tokenizer, text: str) -> list[str]:
    return tokenizer.encode(text).tokens


def test_without_words_it_stays_as_it_is(tmp_path):
    assert tokens(laid(tmp_path), "Cat sat") == ["[CLS]", "cat", "sat", "[SEP]"]


def test_the_class_heeds_words_about_the_normalizer(tmp_path):
    assert tokens(laid(tmp_path, do_lower_case=False), "Cat sat") == ["[CLS]", "Cat", "sat", "[SEP]"]
    assert tokens(laid(tmp_path, strip_accents=True), "café") == ["[CLS]", "cafe", "[SEP]"]
    assert tokens(laid(tmp_path, strip_accents=False), "café") == ["[CLS]", "café", "[SEP]"]


def test_another_class_heeds_only_what_agrees(tmp_path):
    other = {"tokenizer_class": "NobodysTokenizer", "network": {"model_type": "nobodys"}}
    assert tokens(laid(tmp_path, do_lower_case=True, **other), "Cat") == ["[CLS]", "cat", "[SEP]"]
    with pytest.raises(SpecError, match=r"tokenizer_config\.json: do_lower_case: false, .* a normalizer that does"):
        laid(tmp_path, do_lower_case=False, **other)


def test_an_added_token_gets_the_number_that_is_stated(tmp_path):
    made = laid(tmp_path, added={"<new>": len(VOCABULARY)})
    assert made.encode("cat <new>").ids == [2, 5, len(VOCABULARY), 3]
    with pytest.raises(SpecError, match=r"added_tokens\.json: <new>: 50, but .*makes '<new>' the token 10, not 50"):
        laid(tmp_path, added={"<new>": 50})


def test_a_token_that_the_network_has_no_row_for(tmp_path):
    with pytest.raises(SpecError, match=r"vocab_size: 10: the network has no such row"):
        laid(tmp_path, added={"<new>": len(VOCABULARY)}, network={"vocab_size": len(VOCABULARY)})


def test_gemmas_token_for_pictures_needs_no_row(tmp_path):
    """The published folders of EmbeddingGemma and of Gemma 3 have it, and a table without it."""
    made = laid(tmp_path, added={"<image_soft_token>": len(VOCABULARY)}, network={"vocab_size": len(VOCABULARY)})
    assert max(made.encode("cat <image_soft_token> sat").ids) < len(VOCABULARY)
    assert made.encode("cat sat").ids == laid(tmp_path).encode("cat sat").ids


def test_the_tokens_around_a_text_are_those_of_the_class(tmp_path):
    with pytest.raises(SpecError, match=r"cls_token: .*puts '\[CLS\]' there, not '\[MASK\]'"):
        laid(tmp_path, cls_token="[MASK]")


def test_a_text_may_have_no_special_tokens(tmp_path):
    made = laid(tmp_path, split_special_tokens=True)
    assert made.encode("[SEP]", add_special_tokens=False).tokens != ["[SEP]"]
    assert laid(tmp_path).encode("[SEP]", add_special_tokens=False).tokens == ["[SEP]"]


def test_tokens_that_are_text_leave_the_numbers_of_others_alone(tmp_path):
    """As <think> is behind Qwen's special tokens, which its vocabulary has not."""
    tokenizer = word_pieces()
    tokenizer.add_special_tokens(["<|special|>"])
    tokenizer.add_tokens(["<think>"])
    (tmp_path / "config.json").write_text('{"model_type": "bert", "vocab_size": 100}')
    (tmp_path / "tokenizer_config.json").write_text('{"split_special_tokens": true}')
    with pytest.raises(SpecError, match="'<think>' would be the token 10, not 11"):
        lay_over(tokenizer, tmp_path)


BERTS = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
TEMPLATE = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)


@pytest.mark.parametrize("frame", [BERTS, TEMPLATE, processors.Sequence([TEMPLATE])], ids=["BERT", "own", "several"])
@pytest.mark.parametrize(("inputs", "segments"), [
    (["input_ids", "attention_mask"], {0}), (["input_ids", "token_type_ids"], {0, 1}), (None, {0, 1}),
])  # fmt: skip
def test_a_pair_is_of_one_segment_where_the_network_is_given_none(frame, inputs, segments, tmp_path):
    tokenizer = word_pieces()
    tokenizer.post_processor = frame
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_input_names": inputs}))
    found = lay_over(tokenizer, tmp_path).encode("cat", "sat")
    assert set(found.type_ids) == segments
    assert found.ids == [2, 5, 3, 9, 3]


def test_texts_are_cut_on_the_side_that_is_stated(tmp_path):
    left = word_pieces()
    left.enable_truncation(4, direction="left")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(SpecError, match=r"truncation_side: not said, but .*cuts texts on the left"):
        lay_over(left, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"truncation_side": "left"}')
    lay_over(left, tmp_path)


def test_the_frame_is_read_off_a_text():
    made = word_pieces()
    assert frame_of(made) == ([2], [3])
    made.enable_padding(length=1 << 31)  # more than there is memory for
    padding = made.padding
    assert frame_of(made) == ([2], [3])
    assert made.padding == padding
    made.no_padding()
    made.post_processor = processors.TemplateProcessing(single="$A [SEP] [SEP]", special_tokens=[("[SEP]", 3)])
    assert frame_of(made) == ([], [3, 3])


def test_without_a_template_there_is_no_frame():
    bare = Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    assert frame_of(bare) == ([], [])


def test_a_tokenizer_that_makes_no_token_of_any_text():
    made = word_pieces()
    made.normalizer = normalizers.Replace(Regex("(.|\n)+"), "")
    for token in VOCABULARY[:5]:
        assert made.encode(token, add_special_tokens=False).tokens == [token]  # special, so it is a token of the text
    made = Tokenizer.from_str(json.dumps({**json.loads(made.to_str()), "added_tokens": []}))
    with pytest.raises(SpecError, match="no text has a token beside the special ones"):
        frame_of(made)
