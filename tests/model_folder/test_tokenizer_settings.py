"""A tokenizer is what all its files say together: ids as transformers has them, or a refusal that names the files."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.tiny_models import MODELS, write_tokenizer

from nimbed._model_folder.tokenizer_file import frame_of
from nimbed._model_folder.tokenizer_settings import OF_NETWORK
from nimbed._text.pair_tokenizer import PairTokenizer
from nimbed._text.tokenizer import TextTokenizer, load_tokenizer, save_tokenizer
from nimbed._types import Pair
from nimbed.backends import fake
from nimbed.errors import SpecError
from nimbed.spec import read_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG, MAP, ADDED, WHOLE = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"
TEXTS = [
    "One </s> two [SEP] three",
    "a <mask>b [MASK] [PAD]",
    "HELLO World Café Ünï <S>",
    "日本語 テスト",
    " lead, Hi  [NEW] tok",
    "a  b\nc \t",
    "<s> <pad> <unk> x<|endoftext|>",
    "",
]
# A tiny tokenizer, the class and the network that it is published for.
KINDS = {
    "bert": ("distilbert", "BertTokenizer", "bert"),
    "mpnet": ("all-mpnet-base-v2", "MPNetTokenizer", "mpnet"),
    "qwen": ("Qwen3-Embedding-0.6B", "Qwen2Tokenizer", "qwen3"),
    "roberta": ("roberta", "RobertaTokenizer", "roberta"),
    "xlm": ("bge-m3", "XLMRobertaTokenizer", "xlm-roberta"),
    "plain": ("bge-m3", "PreTrainedTokenizerFast", "xlm-roberta"),
}
ROWS = 1300


def token(content: str, **flags: bool) -> dict[str, Any]:
    usual = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    return {"content": content, **usual, "special": True, **flags}


@pytest.fixture(scope="module")
def published(tmp_path_factory, peps) -> Callable[[str], Path]:
    """A folder of each kind as transformers writes it."""
    from transformers import AutoTokenizer

    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            tiny, name, network = KINDS[kind]
            folder = made[kind] = tmp_path_factory.mktemp(kind)
            names = {"unk_token": "<unk>"}
            if kind == "bert":
                names |= {"pad_token": "<pad>", "mask_token": "<mask>"}
            write_tokenizer(folder, MODELS[tiny], peps[:200])
            (folder / "config.json").write_text(json.dumps({"model_type": network, "vocab_size": ROWS}))
            (folder / CONFIG).write_text(json.dumps({"tokenizer_class": name, **names}))
            AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        return made[kind]

    return make


def altered(source: Path, target: Path, files: dict[str, Any]) -> Path:
    """A copy with words laid over its files; a function changes the content in place, None takes a word away."""
    shutil.copytree(source, target, dirs_exist_ok=True)
    for name, change in files.items():
        path = target / name
        content = json.loads(path.read_text()) if path.is_file() else {}
        if callable(change):
            change(content)
        else:
            content = {k: v for k, v in {**content, **change}.items() if k not in change or v is not None}
        path.write_text(json.dumps(content))
    return target


def ids_of_transformers(folder: Path) -> list[list[int]]:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(folder)
    return [reference(text)["input_ids"] for text in TEXTS]


def ids_of(tokenizer: Any) -> list[list[int]]:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [tokenizer.encode(text).ids for text in TEXTS]


def without_mask(content: dict[str, Any]) -> None:
    content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] != "<mask>"]


def with_lstrip(content: dict[str, Any]) -> None:
    next(t for t in content["added_tokens"] if t["content"] == "<mask>")["lstrip"] = True


def decoder(*changed: dict[str, Any], without: str = "") -> Callable[[dict[str, Any]], None]:
    """``added_tokens_decoder`` of the usual tokens, with these in the place of their like or behind."""

    def change(content: dict[str, Any]) -> None:
        names = [content[name] for name in ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")]
        tokens = {name: token(name) for name in names if name and name != without}
        ids = {name: (0, 1, 2, 3, 4)[names.index(name)] for name in tokens}
        for one in changed:
            tokens[one["content"]] = one
        content["added_tokens_decoder"] = {str(ids.get(name, 1200)): tokens[name] for name in tokens}

    return change


def unsaid(content: dict[str, Any]) -> None:
    """What the class has, it has."""
    for word in ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space"):
        content.pop(word, None)


def another_normalizer(content: dict[str, Any]) -> None:
    content["normalizer"] |= {"lowercase": False, "strip_accents": False, "handle_chinese_chars": False}


def another_space(content: dict[str, Any]) -> None:
    steps = content["pre_tokenizer"]
    for step in steps.get("pretokenizers", [steps]):
        step.update(
            {"ByteLevel": {"add_prefix_space": True}, "Metaspace": {"prepend_scheme": "never"}}.get(step["type"], {})
        )


# kind, what is changed
SAME = {
    "published-bert": ("bert", {}),
    "published-mpnet": ("mpnet", {}),
    "published-qwen": ("qwen", {}),
    "published-roberta": ("roberta", {}),
    "published-xlm": ("xlm", {}),
    "published-plain": ("plain", {}),
    "no lowering": ("bert", {CONFIG: {"do_lower_case": False}}),
    "no lowering, mpnet": ("mpnet", {CONFIG: {"do_lower_case": False}}),
    "the class's normalizer": ("bert", {CONFIG: unsaid, WHOLE: another_normalizer}),
    "the class's normalizer, mpnet": ("mpnet", {CONFIG: unsaid, WHOLE: another_normalizer}),
    "the class's space, bytes": ("roberta", {CONFIG: unsaid, WHOLE: another_space}),
    "the class's space, split bytes": ("qwen", {CONFIG: unsaid, WHOLE: another_space}),
    "the class's space": ("xlm", {CONFIG: unsaid, WHOLE: another_space}),
    "accents": ("bert", {CONFIG: {"strip_accents": False}}),
    "accents as lowering": ("bert", {CONFIG: {"strip_accents": None, "do_lower_case": False}}),
    "chinese": ("bert", {CONFIG: {"tokenize_chinese_chars": False}}),
    "lowering is no word of this class": ("plain", {CONFIG: {"do_lower_case": True}}),
    "lowering is no word of a byte-level one": ("roberta", {CONFIG: {"do_lower_case": True}}),
    "class by the network": ("bert", {CONFIG: {"do_lower_case": False, "tokenizer_class": None}}),
    "another class than the network's": (
        "bert",
        {CONFIG: {"do_lower_case": False}, "config.json": {"model_type": "mpnet"}},
    ),
    "unknown word": ("bert", {CONFIG: {"unk_token": "<pad>"}}),
    "space, bytes": ("roberta", {CONFIG: {"add_prefix_space": True}}),
    "space, split bytes": ("qwen", {CONFIG: {"add_prefix_space": True}}),
    "no space": ("xlm", {CONFIG: {"add_prefix_space": False}}),
    "space that is null": ("xlm", {CONFIG: {"add_prefix_space": None}}),
    "space that is null, bytes": ("roberta", {CONFIG: {"add_prefix_space": None}}),
    "space is no word of this class": ("plain", {CONFIG: {"add_prefix_space": False}}),
    "split": ("bert", {CONFIG: {"split_special_tokens": True}}),
    "split, pieces": ("xlm", {CONFIG: {"split_special_tokens": True}}),
    "split, plain": ("plain", {CONFIG: {"split_special_tokens": True}}),
    "listed token": ("bert", {CONFIG: {"extra_special_tokens": ["[NEW]"]}}),
    "listed token, old word": ("xlm", {CONFIG: {"additional_special_tokens": ["[NEW]"], "extra_special_tokens": None}}),
    "named token": ("plain", {CONFIG: {"image_token": "[NEW]"}}),
    "named tokens": ("qwen", {CONFIG: {"extra_special_tokens": {"image_token": "[NEW]"}}}),
    "start of no frame": ("bert", {CONFIG: {"bos_token": "[NEW]"}}),
    "map": ("bert", {MAP: {"additional_special_tokens": ["[NEW]"]}}),
    "map, flags": ("roberta", {MAP: {"mask_token": token("<mask>", lstrip=True)}}),
    "added": ("bert", {ADDED: {"[NEW]": 1200}}),
    "a class's own token": ("roberta", {WHOLE: without_mask}),
    "flags of the file": ("roberta", {WHOLE: with_lstrip}),
    "flags beside it": ("roberta", {CONFIG: decoder(token("<mask>", lstrip=True))}),
    "flags beside it, plain": ("plain", {CONFIG: {"added_tokens_decoder": {"4": token("<mask>", lstrip=True)}}}),
    "flags against the file's": ("roberta", {WHOLE: with_lstrip, CONFIG: decoder()}),
    "decoder": ("roberta", {CONFIG: decoder(token("[NEW]", special=False, rstrip=True))}),
    "passed over": (
        "roberta",
        {CONFIG: {"legacy": True, "trim_offsets": False, "never_split": ["a"], "clean_up_tokenization_spaces": True}},
    ),
}
REFUSED = {
    "first token": ("bert", {CONFIG: {"cls_token": "<mask>"}}, CONFIG, "cls_token"),
    "last token": ("roberta", {MAP: {"sep_token": "<mask>"}}, MAP, "sep_token"),
    "last token, pieces": ("xlm", {CONFIG: {"eos_token": "<mask>"}}, CONFIG, "eos_token"),
    "no frame": ("mpnet", {WHOLE: lambda c: c.update(post_processor=None)}, CONFIG, "cls_token"),
    "end": ("qwen", {CONFIG: {"add_eos_token": True, "eos_token": "<mask>"}}, CONFIG, "add_eos_token"),
    "start": ("qwen", {CONFIG: {"add_bos_token": True, "bos_token": "<mask>"}}, CONFIG, "add_bos_token"),
    "another id": ("bert", {ADDED: {"[NEW]": 1250}}, ADDED, "[NEW]"),
    "another id, decoder": ("plain", {CONFIG: {"added_tokens_decoder": {"7": token("[NEW]")}}}, CONFIG, "added"),
    "a token that the decoder lacks": (
        "roberta",
        {CONFIG: lambda c: (c.update(mask_token=None), decoder(without="<mask>")(c)),
         WHOLE: lambda c: c["added_tokens"].append({"id": 1200, **token("[NEW]")})},
        CONFIG,
        "added_tokens_decoder",
    ),
    "lowering of another normalizer": (
        "bert",
        {CONFIG: {"do_lower_case": False}, WHOLE: {"normalizer": {"type": "Lowercase"}}},
        CONFIG,
        "do_lower_case",
    ),
    "side": (
        "qwen",
        {WHOLE: lambda c: c["truncation"].update(direction="Left"), CONFIG: {"truncation_side": None}},
        CONFIG,
        "truncation_side",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "files"), SAME.values(), ids=SAME)
def test_ids_are_those_of_transformers(published, tmp_path, kind, files):
    folder = altered(published(kind), tmp_path / "folder", files)
    expected = ids_of_transformers(folder)
    assert ids_of(load_tokenizer(folder)) == expected
    artefact = tmp_path / "artefact"
    artefact.mkdir()
    save_tokenizer(folder, artefact)
    assert ids_of(load_tokenizer(artefact)) == expected
    same = (artefact / WHOLE).read_bytes() == (folder / WHOLE).read_bytes()
    assert same or files


@pytest.mark.parametrize(("kind", "files", "file", "word"), REFUSED.values(), ids=REFUSED)
def test_contradictions_are_refused_by_both_files(published, tmp_path, kind, files, file, word):
    folder = altered(published(kind), tmp_path, files)
    with pytest.raises(SpecError) as caught:
        load_tokenizer(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / file}: {word}")
    assert str(folder / WHOLE) in message
    assert f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})" in message


@pytest.mark.parametrize("name", ["first token", "another id", "no frame", "lowering of another normalizer"])
def test_the_command_of_the_message_mends_the_folder(published, tmp_path, name):
    from transformers import AutoTokenizer

    kind, files, _, _ = REFUSED[name]
    folder = altered(published(kind), tmp_path, files)
    expected = ids_of_transformers(folder)
    AutoTokenizer.from_pretrained(str(folder)).save_pretrained(str(folder))
    (folder / ADDED).unlink(missing_ok=True)
    assert ids_of(load_tokenizer(folder)) == expected


def test_classes_are_those_of_transformers():
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

    assert {name: TOKENIZER_MAPPING_NAMES[name] for name in OF_NETWORK} == OF_NETWORK


@pytest.mark.parametrize("content", ["[NEW]", "</s>"])
def test_a_token_without_a_row_is_told_at_open(published, tmp_path, content):
    rows = 1200 if content == "[NEW]" else 2
    files = {"config.json": {"vocab_size": rows}, CONFIG: {"extra_special_tokens": [content]}}
    folder = altered(published("bert"), tmp_path, files)
    with pytest.raises(SpecError, match=rf"tokenizer.json.*config.json: vocab_size: {rows}"):
        load_tokenizer(folder)


@pytest.mark.parametrize("kind", ["bert", "plain", "qwen", "roberta"])
def test_the_frame_is_read_and_not_guessed(published, tmp_path, kind):
    """A tokenizer that has no token for "a" has the same frame."""

    def dumb(content: dict[str, Any]) -> None:
        content["normalizer"] = {"type": "Replace", "pattern": {"String": "a"}, "content": ""}

    files = {WHOLE: dumb, CONFIG: {"tokenizer_class": "PreTrainedTokenizerFast"}}
    deaf = load_tokenizer(altered(published(kind), tmp_path, files))
    deaf.no_padding()
    assert not deaf.encode("a", add_special_tokens=False).ids
    assert frame_of(deaf) == frame_of(load_tokenizer(published(kind)))
    cut = TextTokenizer(deaf, fake.SPEC, max_length=8, truncate="silent")(["the long text " * 9]).sequences[0]
    before, after = frame_of(deaf)
    assert len(cut) == 8
    assert cut.tolist()[: len(before)] == before
    assert cut.tolist()[8 - len(after) :] == after


def test_dropout_draws_no_ids(published, tmp_path):
    files = {WHOLE: lambda c: c["model"].update(dropout=0.5), CONFIG: {"tokenizer_class": "PreTrainedTokenizerFast"}}
    folder = altered(published("roberta"), tmp_path / "folder", files)
    expected = ids_of(load_tokenizer(published("roberta")))
    assert all(ids_of(load_tokenizer(folder)) == expected for _ in range(3))
    (tmp_path / "artefact").mkdir()
    save_tokenizer(folder, tmp_path / "artefact")
    assert json.loads((tmp_path / "artefact" / WHOLE).read_text())["model"]["dropout"] is None


REPORTED = [
    {CONFIG: {"do_lower_case": False}},
    {CONFIG: {"tokenize_chinese_chars": False}},
    {CONFIG: {"split_special_tokens": True}},
    {CONFIG: {"added_tokens_decoder": {"30522": token("[NEW]")}}, "config.json": {"vocab_size": 30523}},
    {ADDED: {"[NEW]": 30522}, "config.json": {"vocab_size": 30523}},
]


@pytest.mark.parametrize("files", REPORTED)
def test_words_beside_a_real_tokenizer(minilm_folder, tmp_path, files):
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("config.json", WHOLE, CONFIG, MAP):
        shutil.copyfile(minilm_folder / name, alone / name)
    assert ids_of(load_tokenizer(alone)) == ids_of_transformers(alone)
    folder = altered(alone, tmp_path / "altered", files)
    assert ids_of(load_tokenizer(folder)) == ids_of_transformers(folder) != ids_of(load_tokenizer(alone))


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        {"type": "NFC"},
        {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Prepend", "prepend": "X"}]},
        {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": False},
    ],
)
def test_lowering_is_that_of_sentence_transformers(tiny_folder, tmp_path, normalizer):
    """Special tokens of a text are no text to be lowered."""
    from sentence_transformers.base.modules.transformer import Transformer

    files = {
        WHOLE: {"normalizer": normalizer} if normalizer else lambda c: c.update(normalizer=None),
        CONFIG: {"tokenizer_class": "PreTrainedTokenizerFast"},
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": True},
    }
    folder = altered(tiny_folder, tmp_path, files)
    texts = [*TEXTS, "One [SEP] two", "[MASK] [PAD] [UNK]", "ÀB İ"]
    reference = Transformer(str(folder), do_lower_case=True).tokenizer
    spec = read_spec(folder)
    assert spec.lowercase
    tokens = TextTokenizer(load_tokenizer(folder), spec, max_length=64, truncate="error")(texts, "Prompt: ")
    expected = [reference(f"Prompt: {text}")["input_ids"] for text in texts]
    assert [ids.tolist() for ids in tokens.sequences] == expected
    pairs = PairTokenizer(load_tokenizer(folder), spec, max_length=64, truncate="error")
    found = pairs([Pair(text, "A [SEP] B") for text in texts]).sequences
    assert [ids[:, 0].tolist() for ids in found] == [reference(text, "A [SEP] B")["input_ids"] for text in texts]
