"""The architectures and tokenizers that people use: tiny models, exported from safetensors, held against torch."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import openvino as ov
import pytest
import tokenizers

from nimbed import Calibration, Encoder
from nimbed._model_folder.families import OFFSET_POSITIONS
from nimbed._model_folder.networks.table import FAMILIES, read_description
from nimbed._model_folder.weights import check_one_encoder
from nimbed._text.tokenizer import TextTokenizer, load_tokenizer
from nimbed.errors import SpecError
from nimbed.quantization import QualityGate
from nimbed.quantization.openvino import build as openvino_build
from nimbed.quantization.openvino.exact import vectors_of
from nimbed.spec import read_spec
from tests.support.building import build_here
from tests.support.model_folders import BERT, refused, write
from tests.support.tiny_models import MODELS, write_model, write_tokenizer

QWEN = "Qwen3-Embedding-0.6B"
NATIVE = {kind for family in FAMILIES for kind in family.types}
MODEL_TYPES = {"bert", "distilbert", "modernbert", "mpnet", "qwen3", "roberta", "xlm-roberta"}


@pytest.fixture(scope="module")
def texts(peps):
    """Of every length up to far more than a model takes, none, and characters that no tokenizer was trained on."""
    rng = np.random.default_rng(0)
    chosen = [peps[i] for i in rng.permutation(len(peps))[:12]]
    return ["", "a", "word " * 200, "naïve 文字 🙂", "<s> </s> [SEP] <pad>", *chosen, *(t[:20] for t in chosen)]


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory, peps):
    return write_model(tmp_path_factory.mktemp("models") / name, MODELS[name], peps[:300])


@pytest.fixture(scope="module")
def oracle(folder):
    with Encoder(folder, backend="torch", truncate="silent", cache=None) as encoder:
        yield encoder


@pytest.fixture(scope="module")
def fp32(folder):
    return build_here(folder, precision="fp32")


@pytest.fixture(scope="module")
def encoder(fp32):
    with Encoder(fp32, truncate="silent", cache=None) as opened:
        yield opened


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_every_text_agrees_with_torch_alone_and_in_company(encoder, oracle, texts):
    for role in ("document", "query"):
        alone = np.concatenate([oracle.encode([text], role=role) for text in texts])
        for vectors in (
            np.concatenate([encoder.encode([text], role=role) for text in texts]),
            encoder.encode(texts, role=role),
            encoder.encode(texts[::-1], role=role)[::-1],
            oracle.encode(texts, role=role),
        ):
            assert cosines(alone, vectors).min() >= 0.99999
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), np.linalg.norm(alone, axis=1), rtol=1e-3)
    # That could not be said of vectors that are all the same.
    assert cosines(alone[:-1], alone[1:]).mean() < 0.99


# The gate's thresholds are those of trained models; the tests have bounds of their own.
LENIENT = QualityGate(mean_cosine=0, min_cosine=0, top10_agreement=0, rank_correlation=0)


def test_int8_keeps_what_tells_texts_apart(folder, name, oracle, texts, peps):
    calibration = Calibration(texts=peps[:80], count=16)
    made = build_here(folder, calibration=calibration, gate=LENIENT, backend="openvino")
    spec = read_spec(folder, name=name)
    tokenizer = TextTokenizer(load_tokenizer(folder), spec, max_length=spec.max_length, truncate="silent")
    network = ov.Core().read_model(made.folder / "model.xml")
    assert openvino_build.is_quantized(network)
    exact = oracle.encode(texts)
    # With the rounding of int8 arithmetic, whatever this CPU has.
    vectors = vectors_of(network, tokenizer(texts, spec.prompt("document")).sequences)
    assert cosines(vectors, exact).mean() >= 0.997
    # Vectors of a random model share a large part, which says nothing; what is left of them must agree as well.
    # Measured: 0.9975 to 0.999; at most 0.991 where all activations' ranges are eight times too wide, 0.37 where they
    # are ten times too narrow.
    common = exact.mean(axis=0)
    assert cosines(vectors - common, exact - common).mean() >= 0.993
    with Encoder(made, truncate="silent", cache=None) as opened:
        assert cosines(opened.encode(texts), exact).mean() >= 0.997
        codes = opened.encode(texts, dtype="int8")
    assert (codes.dtype, codes.shape) == (np.int8, exact.shape)


def test_the_native_engine_keeps_what_tells_texts_apart(folder, native, oracle, texts, peps):
    wanted = {"calibration": Calibration(texts=peps[:80], count=16), "gate": LENIENT}
    if json.loads((folder / "config.json").read_text())["model_type"] not in NATIVE:
        with pytest.raises(SpecError, match="the native engine runs bert"):
            build_here(folder, backend="native", **wanted)
        return
    made = build_here(folder, backend="native", **wanted)
    exact = oracle.encode(texts)
    common = exact.mean(axis=0)
    with Encoder(made, truncate="silent", cache=None) as opened:
        assert opened.info.backend == "native"
        vectors = opened.encode(texts)
        alone = np.concatenate([opened.encode([text]) for text in texts])
    assert cosines(vectors, exact).mean() >= 0.999
    assert cosines(vectors - common, exact - common).mean() >= 0.997
    np.testing.assert_array_equal(vectors, alone)


def test_what_the_folder_says_is_read(name, encoder, folder):
    model, info = MODELS[name], encoder.info
    assert (info.pooling, info.normalize) == (model.pooling, model.normalize)
    assert info.max_length == model.max_length
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    assert kind in MODEL_TYPES
    prompts = {
        "multilingual-e5-small": {"query": "query: ", "document": "passage: "},
        QWEN: {"query": MODELS[QWEN].prompts and MODELS[QWEN].prompts["query"]},
    }
    assert info.prompts == prompts.get(name, {})


def test_every_architecture_is_here():
    import transformers

    assert {getattr(transformers, f"{m.architecture}Config").model_type for m in MODELS.values()} == MODEL_TYPES
    assert {m.tokenizer for m in MODELS.values()} == {"bpe", "unigram", "wordpiece"}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_special_tokens_stay_when_a_text_is_cut(name, side, tmp_path, peps):
    model = replace(MODELS[name], tokenizer_config={**MODELS[name].tokenizer_config, "truncation_side": side})
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    write(tmp_path)
    write_tokenizer(tmp_path, model, peps[:40])
    raw = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    before, after = ([raw.token_to_id(token) for token in tokens] for tokens in model.frame)
    raw.no_truncation()
    raw.no_padding()
    body = raw.encode(peps[0] * 9, add_special_tokens=False).ids
    kept = 20 - len(before) - len(after)
    tokenizer = TextTokenizer(load_tokenizer(tmp_path), read_spec(tmp_path), max_length=20, truncate="silent")
    wanted = [*before, *(body[-kept:] if side == "left" else body[:kept]), *after]
    assert tokenizer([peps[0] * 9]).sequences[0].tolist() == wanted
    assert tokenizer(["a"]).sequences[0].tolist() == raw.encode("a").ids
    windows = TextTokenizer(load_tokenizer(tmp_path), read_spec(tmp_path), max_length=20, truncate="chunk")
    for window in windows([peps[0] * 9]).sequences:
        assert window[: len(before)].tolist() == before
        assert window[len(window) - len(after) :].tolist() == after


def test_qwen_is_the_same_whatever_side_its_tokenizer_pads(tmp_path, peps, texts):
    left = write_model(tmp_path / "left", MODELS[QWEN], peps[:60])
    right = shutil.copytree(left, tmp_path / "right")
    (right / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 64, "padding_side": "right"}))
    vectors = []
    for folder in (left, right):
        with Encoder(folder, backend="torch", truncate="silent", cache=None) as opened:
            vectors.append(opened.encode(texts))
    np.testing.assert_array_equal(*vectors)


def test_qwen_agrees_with_sentence_transformers(tmp_path, peps, texts):
    from sentence_transformers import SentenceTransformer

    folder = write_model(tmp_path / QWEN, MODELS[QWEN], peps[:60])
    texts = [text for text in texts if 0 < len(text) < 60]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        queries, documents = theirs.encode_query(texts), theirs.encode_document(texts)
    with Encoder(folder, backend="torch", truncate="silent", cache=None) as opened:
        assert cosines(opened.encode(texts), documents).min() >= 0.99999
        assert cosines(opened.encode(texts, role="query"), queries).min() >= 0.99999


def test_a_text_without_any_token_has_a_vector(tmp_path, peps):
    folder = write_model(tmp_path / "bare", replace(MODELS["roberta"], frame=([], [])), peps[:60])
    made = build_here(folder, tmp_path / "out", precision="fp32")
    texts = ["", "a", "", *peps[:3]]
    with Encoder(made, truncate="silent") as encoder, Encoder(folder, backend="torch", truncate="silent") as oracle:
        assert cosines(encoder.encode(texts), oracle.encode(texts)).min() >= 0.99999


@pytest.mark.parametrize("kind", ["data2vec-text", "longformer", "mpnet", "xlm-roberta"])
def test_positions_behind_the_padding_are_not_for_tokens(kind, tmp_path):
    config = {**BERT, "model_type": kind, "max_position_embeddings": 514, "pad_token_id": 1}
    folder = write(tmp_path, files={"config.json": config, "tokenizer_config.json": {"model_max_length": 8192}})
    assert read_spec(folder).max_length == 512


@pytest.mark.parametrize("kind", sorted(OFFSET_POSITIONS))
def test_a_padding_that_no_file_names_is_that_of_transformers(kind, tmp_path):
    from transformers import AutoConfig

    config = {**BERT, "model_type": kind, "max_position_embeddings": 514}
    folder = write(tmp_path, files={"config.json": config, "tokenizer_config.json": {"model_max_length": 8192}})
    padding = AutoConfig.for_model(kind).pad_token_id
    spec = read_spec(folder)
    assert spec.max_length == 514 - padding - 1
    if kind in NATIVE:
        sizes = {"num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 99}
        (folder / "config.json").write_text(json.dumps({**config, **sizes}))
        assert read_description(folder, spec).padding == padding


def test_the_padding_of_mpnet_is_its_networks_own(tmp_path):
    sizes = {"num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 64, "vocab_size": 99}
    config = {**BERT, **sizes, "model_type": "mpnet", "pad_token_id": 5}
    folder = write(tmp_path, files={"config.json": config})
    assert (read_spec(folder).max_length, read_description(folder, read_spec(folder)).padding) == (62, 1)


@pytest.mark.parametrize(
    ("change", "key"),
    [({"pad_token_id": None}, "pad_token_id"), ({"pad_token_id": "1"}, "pad_token_id"),
     ({"pad_token_id": -1}, "pad_token_id"), ({"pad_token_id": 63}, "max_position_embeddings")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "longformer"])
def test_a_padding_that_is_no_token_is_refused(kind, change, key, tmp_path):
    refused(write(tmp_path, files={"config.json": {**BERT, "model_type": kind, **change}}), "config.json", key)


@pytest.mark.parametrize("key", ["dim", "d_model", "hidden_size", "n_embd"])
def test_the_width_has_many_names(key, tmp_path):
    config = {"model_type": "some", key: 48, "max_position_embeddings": 64}
    assert read_spec(write(tmp_path, files={"config.json": config})).hidden_size == 48


@pytest.mark.parametrize("backend", ["native", "openvino", "torch"])
@pytest.mark.parametrize("prefixes", [("", "bert."), ("query.", "document.")])
def test_two_encoders_in_one_file_are_refused(backend, prefixes, tiny_folder, tmp_path):
    import safetensors.numpy

    folder = shutil.copytree(tiny_folder, tmp_path / "two")
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    both = {prefix + name: values + n for n, prefix in enumerate(prefixes) for name, values in weights.items()}
    safetensors.numpy.save_file(both, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SpecError, match=r"model\.safetensors holds two encoders: "):
        Encoder(folder, backend=backend)
    index = {"weight_map": dict.fromkeys(both, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SpecError, match="two encoders"):
        check_one_encoder(folder / "model.safetensors.index.json")
