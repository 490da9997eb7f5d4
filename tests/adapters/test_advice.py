"""Error messages in the words of the interface: each name in one is a parameter that the called interface takes."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest
from tests.support.model_folders import BERT, write

import nimbed
from nimbed import Encoder, NimbedError, Reranker, quantize
from nimbed._adapters.advice import FLAT, HAYSTACK, advising_in, of_command
from nimbed.cli import _parser, main
from nimbed.errors import InputError
from nimbed.haystack import NimbedDocumentEmbedder, NimbedRanker, NimbedTextEmbedder
from nimbed.langchain import NimbedCrossEncoder, NimbedEmbeddings, NimbedReranker
from nimbed.llama_index import NimbedEmbedding, NimbedRerank

NESTED = {
    "spec": {"pooling", "prompts", "normalize", "task"},
    "source": {"file", "revision", "cache_folder", "allow_code"},
}


def parameters(interface) -> set[str]:
    fields = getattr(interface, "model_fields", {})
    return (
        set(inspect.signature(interface.__init__).parameters) | set(fields) | {field.alias for field in fields.values()}
    )


def haystack(interface):
    return lambda model, **options: interface(model, **options).warm_up()


# By name: how the model is opened, and the words that it takes.
INTERFACES = {
    "Encoder": (Encoder, parameters(Encoder) | NESTED["spec"] | NESTED["source"]),
    "Reranker": (Reranker, parameters(Reranker) | NESTED["spec"] | NESTED["source"]),
    **{
        interface.__name__: (interface, parameters(interface))
        for interface in (NimbedEmbeddings, NimbedEmbedding, NimbedReranker, NimbedCrossEncoder, NimbedRerank)
    },
    **{
        interface.__name__: (haystack(interface), parameters(interface))
        for interface in (NimbedTextEmbedder, NimbedDocumentEmbedder, NimbedRanker)
    },
}
FLAT_INTERFACES = {name: interface for name, interface in INTERFACES.items() if name.startswith("Nimbed")}


@pytest.fixture
def folder(tmp_path):
    """A model of no known family that does not say its pooling."""
    config = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 8, "max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"")
    return tmp_path


def told(call) -> str:
    with pytest.raises(NimbedError) as caught:
        call()
    return str(caught.value)


def check_words(message: str, words: set[str]) -> None:
    # What is to be written as a call of its own is followed as it stands.
    own = re.sub(r"nimbed\.\w+\(.*?\)\)?", "", message)
    assert set(re.findall(r"\b([a-z_]+)=", own)) <= words, message


@pytest.mark.parametrize(("opened", "words"), INTERFACES.values(), ids=INTERFACES)
def test_pooling(opened, words, folder):
    message = told(lambda: opened(model=str(folder)))
    assert "pooling=" in message
    check_words(message, words)


@pytest.mark.parametrize(("opened", "words"), INTERFACES.values(), ids=INTERFACES)
def test_a_task(opened, words, tmp_path):
    folder = write(tmp_path, files={"config.json": {**BERT, "lora_adaptations": ["separation"]}})
    message = told(lambda: opened(model=str(folder)))
    assert "task=" in message
    check_words(message, words)


@pytest.mark.parametrize(("opened", "words"), FLAT_INTERFACES.values(), ids=FLAT_INTERFACES)
@pytest.mark.parametrize("file", ["none.onnx", "../model.onnx", "model.pt"])
def test_a_file(opened, words, folder, file):
    (folder / "model.pt").write_bytes(b"")
    more = {"pooling": "mean"} if "pooling" in words else {}
    message = told(lambda: opened(model=str(folder), file_name=file, **more))
    check_words(message, words)
    assert more == {} or "file_name=" in message or "onnx" in message


@pytest.mark.parametrize(
    "call",
    [
        lambda: NimbedEmbeddings(model="m", backend="fake").embed_query(["a"]),
        lambda: NimbedEmbeddings(model="m", backend="fake").embed_documents(iter("a")),
        lambda: NimbedEmbedding(model="m", backend="fake").get_query_embedding(["a"]),
        lambda: NimbedTextEmbedder(model="m", backend="fake").run(["a"]),
        lambda: NimbedDocumentEmbedder(model="m", backend="fake").run("a"),
        lambda: NimbedCrossEncoder(model="m", backend="fake").score(["ab"]),
    ],
    ids=range(6),
)
def test_texts(call):
    assert not re.search(r"encode|Encoder|\w=", told(call))


MESSAGES = [
    "x is code. If you trust whoever made it, allow it with source=Source(allow_code=True); otherwise build it here",
    "a copy in its cache is used with source=Source(local_files_only=True)",
    "free its place or choose another (Source(cache_folder=...), or HF_HOME)",
    "give it: spec=SpecOverrides(pooling=...) with one of cls, mean",
    "none is for retrieval; say which is meant: spec=SpecOverrides(task=...) with one of separation, text-matching",
    "SpecOverrides(task='search'): there is no adapter for this task; the model knows separation",
    "Source(file='x.onnx'): no such file",
    'or take precision="fp32"',
]


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize(
    ("words", "interface"),
    [(FLAT, NimbedEmbeddings), (FLAT, NimbedEmbedding), (HAYSTACK, NimbedTextEmbedder)],
    ids=["langchain", "llama_index", "haystack"],
)
def test_remedies_in_flat_words(message, words, interface):
    with pytest.raises(InputError) as caught, advising_in(words):
        raise InputError(message)
    check_words(str(caught.value), parameters(interface))
    assert not re.search(r"Source\(|SpecOverrides\(", str(caught.value))


def test_an_instruction_is_an_option_of_rerankers():
    message = 'give a reranker spec=SpecOverrides(prompts={"instruction": ...})'
    for words, wanted in ((FLAT, "instruction=..."), (of_command({}), "an instruction (in Python)")):
        with pytest.raises(InputError) as caught, advising_in(words):
            raise InputError(message)
        assert str(caught.value) == f"give a reranker {wanted}"
    assert all("instruction" in parameters(one) for one in (NimbedReranker, NimbedCrossEncoder, NimbedRanker))


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("command", ["quantize m", "embed t.txt -m m -o v.npy"])
def test_remedies_in_a_commands_words(message, command):
    options = vars(_parser().parse_args(command.split()))
    with pytest.raises(InputError) as caught, advising_in(of_command(options)):
        raise InputError(message)
    said = str(caught.value)
    assert "=" not in said
    named = re.findall(r"(?<!MODEL )--([a-z-]+)", said)
    assert {name.replace("-", "_") for name in named} <= options.keys()


def test_the_command_says_its_own_option(folder, capsys):
    assert main(["quantize", str(folder), "-o", str(folder / "out")]) == 1
    assert "nimbed quantize MODEL --pooling ..." in capsys.readouterr().err


def test_nested_words_of_messages_are_those_that_are_translated():
    """A message that names another one needs a line in ``nimbed._adapters.advice``, and a message here."""
    named = set()
    for path in Path(nimbed.__file__).parent.rglob("*.py"):
        if path.name != "advice.py":
            named |= set(re.findall(r"""["' (=](SpecOverrides|Source)\((\w+)=[^\n]*["']""", path.read_text("utf-8")))
    assert named == {
        ("SpecOverrides", "pooling"), ("SpecOverrides", "task"), ("SpecOverrides", "prompts"), ("Source", "file"),
        ("Source", "cache_folder"), ("Source", "allow_code"), ("Source", "local_files_only"),
    }  # fmt: skip


def test_quantize_takes_what_the_rerankers_are_told():
    assert {"spec", "source", "calibration", "force"} <= set(inspect.signature(quantize).parameters)


def test_an_argument_that_a_reranker_has_not_is_refused_by_name():
    with pytest.raises(InputError, match="truncate_dim"):
        NimbedReranker(model="m", backend="fake", truncate_dim=8)


def test_a_setting_of_the_command_keeps_its_own_words():
    options = vars(_parser().parse_args(["evaluate", "a@max_length=0", "b"]))
    with pytest.raises(InputError) as caught, advising_in(of_command(options)):
        raise InputError("'a@dim=8,max_length=0': max_length=0 is too short")
    assert str(caught.value) == "'a@dim=8,max_length=0': --max-length 0 is too short"
