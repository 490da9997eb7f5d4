"""Every file that is read, damaged in every way: nimbed's own error comes out, or an encoder with finite vectors."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nimbed import Encoder, quantize
from nimbed._loading.artefact import MANIFEST, file_records
from nimbed._loading.build import make_request
from nimbed._loading.hub import Source
from nimbed._loading.manifest import _CHECKSUM, _checksum, read_manifest, write_manifest
from nimbed._loading.profile import Profile, profile_path, read_profile, write_profile
from nimbed._model_folder.networks.table import read_description
from nimbed._text.text_files import texts_of
from nimbed.backends.shapes import Tuning
from nimbed.cli import main
from nimbed.errors import BuildError, InputError
from nimbed.evaluate import load_rerank, load_retrieval, load_sts
from nimbed.quantization import QualityGate
from nimbed.spec import read_spec
from tests.support.model_folders import candidate_of
from tests.support.mutations import TEXTS, Findings, attack, count, note
from tests.support.tiny_models import MODELS, write_model

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("torch")
SETTINGS = [
    "config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json", "sentence_bert_config.json",
    "config_sentence_transformers.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, peps) -> Path:
    """A tiny BERT with every settings file that a folder may have."""
    made = write_model(tmp_path_factory.mktemp("damaged") / "bert", MODELS["bert"], peps[:200])
    prompts = {
        "prompts": {"query": "query: ", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
    for name, content in {
        "sentence_bert_config.json": {"max_seq_length": 48, "do_lower_case": False},
        "config_sentence_transformers.json": {**prompts, "similarity_fn_name": "cosine"},
        "special_tokens_map.json": {"pad_token": "<pad>", "unk_token": "<unk>"},
        "added_tokens.json": {},
    }.items():
        (made / name).write_text(json.dumps(content))
    return made


@pytest.fixture(scope="module")
def dense_folder(tmp_path_factory, folder) -> Path:
    """The same with a Dense layer behind its pooling."""
    from safetensors.numpy import save_file

    made = tmp_path_factory.mktemp("damaged") / "dense"
    shutil.copytree(folder, made)
    modules = json.loads((made / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (made / "modules.json").write_text(json.dumps(modules))
    (made / "2_Dense").mkdir()
    config = {
        "in_features": 64,
        "out_features": 16,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (made / "2_Dense" / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(0)
    weights = {"linear.weight": rng.normal(size=(16, 64)), "linear.bias": rng.normal(size=16)}
    save_file({k: v.astype(np.float32) for k, v in weights.items()}, made / "2_Dense" / "model.safetensors")
    return made


def vectors_of(folder: Path, backend: str) -> np.ndarray:
    with Encoder(folder, backend=backend, truncate="chunk", cache=None, threads=1) as encoder:
        vectors = encoder.encode(TEXTS)
        query = encoder.encode_query(TEXTS[0])
        assert vectors.shape == (len(TEXTS), encoder.dim)
        assert query.shape == (encoder.dim,)
        return np.concatenate([vectors, query[None]])


def fake_vectors(folder: Path) -> np.ndarray:
    """What is read before any weights: settings and tokenizer."""
    return vectors_of(folder, "fake")


def shape_and_vectors(folder: Path) -> np.ndarray:
    """The same, and what the native engine reads."""
    read_description(folder, read_spec(folder))
    return vectors_of(folder, "fake")


def test_settings_of_a_model_folder(folder, tmp_path):
    examples = count(150)
    files = [name for name in SETTINGS if name != "2_Dense/config.json"]
    attack(folder, files, shape_and_vectors, tmp_path, examples=examples).check(examples)


def test_settings_of_a_folder_with_a_dense_layer(dense_folder, tmp_path):
    examples = count(100)
    attack(dense_folder, SETTINGS, fake_vectors, tmp_path, examples=examples).check(examples)


def test_settings_and_weights_through_torch(dense_folder, tmp_path):
    examples = count(20)
    files = [*SETTINGS, "model.safetensors", "2_Dense/model.safetensors"]
    attack(dense_folder, files, lambda f: vectors_of(f, "torch"), tmp_path, examples=examples).check(examples)


LENIENT = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0)  # random weights


@pytest.fixture(scope="module")
def artefact(native, folder, peps) -> Path:
    """Of the native engine, with ranges."""
    return quantize(
        folder, folder.parent / "artefact", backend="native", calibration=peps[:60], gate=LENIENT, progress=False
    ).folder


def signed(folder: Path) -> None:
    """As somebody with bad intent or a bad tool would leave it: every file is what the manifest says."""
    if any(not path.is_file() for path in folder.iterdir()):
        return
    manifest = replace(read_manifest(folder), files=file_records(folder))
    (folder / MANIFEST).unlink()  # it is a link to the original
    write_manifest(folder, manifest)


def signed_again(folder: Path) -> None:
    """A manifest that vouches for itself, whatever it says."""
    path = folder / MANIFEST
    if not path.is_file():
        return
    try:
        values = json.loads(path.read_text())
        values[_CHECKSUM] = _checksum({name: value for name, value in values.items() if name != _CHECKSUM})
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return
    path.unlink()
    path.write_text(json.dumps(values))


def artefact_vectors(folder: Path) -> np.ndarray:
    with Encoder(folder, truncate="chunk", cache=None, threads=1) as encoder:
        vectors = encoder.encode([*TEXTS, "word " * 300])
        codes = encoder.encode(TEXTS, dtype="int8")
        encoder.encode(TEXTS, dtype="ubinary")
        assert vectors.shape == (len(TEXTS) + 1, encoder.dim)
        assert codes.shape == (len(TEXTS), encoder.dim)
    return vectors


def test_a_manifest(artefact, tmp_path):
    examples = count(150)
    attack(artefact, [MANIFEST], artefact_vectors, tmp_path, examples=examples, after=signed_again).check(examples)


def test_files_of_an_artefact_that_its_manifest_vouches_for(artefact, tmp_path):
    examples = count(90)
    files = ["tokenizer.json", "encoder.safetensors", "ranges.npy"]
    attack(artefact, files, artefact_vectors, tmp_path, examples=examples, after=signed).check(examples)


def native_build(folder: Path) -> np.ndarray:
    """In this process: a child for each would take seconds."""
    from nimbed.quantization.pipeline import build

    texts = folder / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"{text} {n}"}) + "\n" for n in range(5) for text in TEXTS))
    request = make_request(
        candidate_of(folder, "native"), "int8", source=Source(), target=folder.parent / "built", calibration_file=texts,
        calibration_count=4, gate=LENIENT,
    )  # fmt: skip
    shutil.rmtree(folder.parent / "built", ignore_errors=True)
    build(request, lambda *_: None)
    return artefact_vectors(folder.parent / "built")


def test_a_build_from_settings_and_weights(native, sharded_folder, tmp_path):
    examples = count(30)
    files = ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "tokenizer.json"]
    attack(sharded_folder, files, native_build, tmp_path, examples=examples).check(examples)


def test_a_build_from_pickled_weights(native, folder, tmp_path):
    import torch
    from safetensors.torch import load_file

    made = shutil.copytree(folder, tmp_path / "pickled", ignore=shutil.ignore_patterns("model.safetensors"))
    torch.save(load_file(folder / "model.safetensors"), made / "pytorch_model.bin")
    examples = count(12)
    attack(made, ["pytorch_model.bin"], native_build, tmp_path, examples=examples).check(examples)


@pytest.fixture(scope="module")
def sharded_folder(folder) -> Path:
    """The same in two shards and an index."""
    from safetensors.numpy import load_file, save_file

    made = folder.parent / "sharded"
    shutil.copytree(folder, made, ignore=shutil.ignore_patterns("model.safetensors"))
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    files = {f"model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in range(2)}
    for file, own in files.items():
        save_file({name: weights[name] for name in own}, made / file, {"format": "pt"})
    weight_map = {name: file for file, own in files.items() for name in own}
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": weight_map}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    return made


def test_shards_through_torch(sharded_folder, tmp_path):
    examples = count(12)
    files = ["model.safetensors.index.json", "model-00001-of-00002.safetensors"]
    attack(sharded_folder, files, lambda f: vectors_of(f, "torch"), tmp_path, examples=examples).check(examples)


def test_a_profile(tmp_path, nimbed_home):
    write_profile(Profile(tuning=Tuning(tokens_per_thread=512, least_alone=16), measured={"engine": "x"}), "d", 1)
    path = profile_path("d", 1)
    original = tmp_path / "profiles"
    original.mkdir()
    shutil.copy(path, original / path.name)

    def use(folder: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        if (folder / path.name).is_file():
            shutil.copy(folder / path.name, path)
        elif (folder / path.name).is_dir():
            path.mkdir()
        if (found := read_profile("d", 1)) is not None:
            assert found.reason

    examples = count(100)
    attack(original, [path.name], use, tmp_path, examples=examples).check(examples)
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """A file of each kind that texts, sets and judgements are read from."""
    made = tmp_path_factory.mktemp("texts")
    records = [{"id": f"d{n}", "title": "t", "text": f"text {n} caf\u00e9"} for n in range(6)]
    (made / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (made / "queries.jsonl").write_text(
        "".join(json.dumps({"id": f"q{n}", "text": f"query {n}"}) + "\n" for n in range(3))
    )
    (made / "qrels.tsv").write_text("query_id\tcorpus_id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(3)))
    (made / "table.csv").write_text('id,text\n1,"one, two"\n2,three\n')
    (made / "table.tsv").write_text("id\ttext\n1\tone\n2\ttwo\n")
    (made / "lines.txt").write_text("one\ntwo\n")
    pairs = [f"{n}\ta {n}\tb {n}\n" for n in range(4)]
    (made / "sts.tsv").write_text("score\tsentence1\tsentence2\n" + "".join(pairs))
    item = {"query": "q", "positive": ["a"], "negative": ["b", "c"]}
    (made / "rerank.jsonl").write_text(json.dumps(item) + "\n")
    return made


def read_all(folder: Path) -> None:
    """Stops at the first that is refused, which is the damaged one."""
    for name in ("table.csv", "table.tsv", "lines.txt", "corpus.jsonl"):
        list(texts_of(folder / name))
    load_retrieval(folder)
    load_sts(folder / "sts.tsv")
    load_rerank(folder / "rerank.jsonl")


def test_texts_sets_and_judgements(texts, tmp_path):
    examples = count(200)
    files = sorted(path.name for path in texts.iterdir())
    attack(texts, files, read_all, tmp_path, examples=examples).check(examples)


WORDS = (
    "-1", "0", "1", "nan", "inf", "1e400", "99999999999999999999999", "-99999999999999999999", "", "x" * 300,
    "x" * 5000, "a\0b", "../..", "/", ".", "~nobody-there/x", "\ud800", "@", "a@b=c", "a@dim=0", "@dim=1", "sqlite:///",
    "caf\u00e9", "/dev/null", "/dev/zero/x",
)  # fmt: skip
_EMBED = "embed TEXTS -m MODEL --backend fake -o OUT"
_EVALUATE = "evaluate fake@backend=fake --sts STS"
COMMANDS = (
    "quantize W", "quantize MODEL -o W/x",
    *(f"quantize MODEL -o OUT {option} W" for option in ("--seed", "--count", "--calibrate", "--pooling")),
    *(f"quantize MODEL -o OUT {option} W" for option in ("--file", "--revision")),
    "embed W -m fake --backend fake -o OUT", "embed TEXTS -m W --backend fake -o OUT",
    "embed TEXTS -m MODEL --backend fake -o W/x", *(f"{_EMBED} {o} W" for o in ("--threads", "--field", "--revision")),
    "evaluate MODEL@backend=fake,dim=W --sts STS", "evaluate MODEL@backend=fake,threads=W --sts STS",
    "evaluate W --sts STS", *(f"evaluate fake@backend=fake {o} W" for o in ("--sts", "--retrieval", "--rerank")),
    *(f"{_EVALUATE} {o} W" for o in ("--seed", "--resamples", "--max-length", "--plot")), f"{_EVALUATE} --json W/x",
    "bench W", "bench fake@backend=fake --only W", "bench fake@backend=fake --texts W", "tune W",
)  # fmt: skip


def refuse_to_build(request: object, *, progress: bool) -> None:
    raise BuildError("it would be built now")


def run(arguments: list[str]) -> None:
    """Status 0, one line and status 1, or what argparse says: never anything raised."""
    try:
        status = main(arguments)
    except SystemExit as err:
        status = 1 if err.code == 2 else err.code
    if status:
        raise InputError("refused")


def test_arguments_of_the_command(folder, texts, tmp_path, capfd, monkeypatch):
    examples, found = count(60), Findings()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nimbed.cli.logging.basicConfig", lambda **_: None)
    monkeypatch.setattr("nimbed.quantization.find_or_build", refuse_to_build)
    places = {"MODEL": folder, "TEXTS": texts / "lines.txt", "STS": texts / "sts.tsv", "OUT": tmp_path / "out.npy"}
    pairs = [(command, word) for command in COMMANDS for word in WORDS]
    random.Random(0).shuffle(pairs)
    for command, word in pairs[:examples]:
        arguments = [str(places.get(part, part)).replace("MODEL@", f"{folder}@") for part in command.split()]
        arguments = [part if part in map(str, places.values()) else part.replace("W", word) for part in arguments]
        note(found, f"{command} {word[:30]!r}", lambda arguments=arguments: run(arguments))
    found.check(min(examples, len(pairs)))
