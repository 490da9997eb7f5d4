"""The same arguments to the class that people come from and to ours: equal vectors, or an error that names one."""

from __future__ import annotations

import numpy as np
import pytest
from langchain_huggingface import HuggingFaceEmbeddings
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
from pydantic import ValidationError
from tests.adapters.conftest import ANSWERS

from nimbed import Source, SpecOverrides
from nimbed._loading.settings import Settings
from nimbed.errors import InputError
from nimbed.langchain import NimbedEmbeddings
from nimbed.llama_index import NimbedEmbedding

# Worst cosine to the vectors of sentence-transformers in fp32.
LEAST = {"int8": 0.98, "fp32": 0.99999}
DEVICE = {"model_kwargs": {"device": "cpu"}, "encode_kwargs": {"normalize_embeddings": False, "batch_size": 2}}
INSTRUCTIONS = {"query_instruction": "Question: ", "text_instruction": "Passage: "}


@pytest.fixture
def folders(minilm_folder, prompted_folder, minilm_int8, minilm_fp32):
    """Without and with prompts; both artefacts are built, so that either opens at once."""
    return str(minilm_folder), str(prompted_folder)


def fake_langchain(**options):
    return NimbedEmbeddings(**{"model": "any-name", "backend": "fake", **options})


def fake_llama_index(**options):
    return NimbedEmbedding(**{"model_name": "any-name", "backend": "fake", **options})


def cosines(ours, theirs):
    a, b = np.array(ours), np.array(theirs)
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("int8", DEVICE),
        ("fp32", DEVICE),
        ("fp32", {"encode_kwargs": {"prompt": "passage: "}, "query_encode_kwargs": {"prompt": "query: "}}),
        ("fp32", {"encode_kwargs": {"prompt_name": "sts"}}),
        ("fp32", {"model_kwargs": {"default_prompt_name": "passage", "truncate_dim": 128}}),
        (
            "fp32",
            {
                "model_kwargs": {"prompts": {"query": "Question: "}},
                "encode_kwargs": {"prompt_name": "passage", "normalize_embeddings": True},
                "query_encode_kwargs": {"prompt_name": "query"},
            },
        ),
    ],
    ids=["int8", "plain", "prompt", "prompt_name", "default_prompt_name", "prompts"],
)
def test_from_langchain_huggingface(folders, precision, options):
    folder = folders["prompt" in str(options)]
    theirs = HuggingFaceEmbeddings(model_name=folder, **options)
    ours = NimbedEmbeddings(model_name=folder, precision=precision, **options)
    documents, questions = list(ANSWERS), list(ANSWERS.values())
    assert min(cosines(ours.embed_documents(documents), theirs.embed_documents(documents))) >= LEAST[precision]
    for question in questions:
        assert cosines(ours.embed_query(question), theirs.embed_query(question)) >= LEAST[precision]


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("int8", INSTRUCTIONS),
        ("fp32", {"device": "cpu", "trust_remote_code": False}),
        ("fp32", {**INSTRUCTIONS, "max_length": 16, "truncate_dim": 128}),
    ],
    ids=["int8", "plain", "instructions"],
)
def test_from_llama_index_huggingface(folders, precision, options):
    theirs = HuggingFaceEmbedding(folders[0], **options)
    ours = NimbedEmbedding(folders[0], precision=precision, truncate="silent", **options)
    documents, questions = list(ANSWERS), list(ANSWERS.values())
    vectors = ours.get_text_embedding_batch(documents)
    assert min(cosines(vectors, theirs.get_text_embedding_batch(documents))) >= LEAST[precision]
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for question in questions:
        assert cosines(ours.get_query_embedding(question), theirs.get_query_embedding(question)) >= LEAST[precision]


@pytest.mark.parametrize("make", [fake_langchain, fake_llama_index])
def test_every_option_reaches_the_core(make):
    place = {"revision": "v1", "local_files_only": True, "cache_folder": "somewhere"}
    plain = {"precision": "fp32", "max_length": 9, "truncate": "chunk", "dim": 8, "threads": 3, "backend": "fake"}
    made = make(**place, **plain, pooling="max", normalize=True, query_instruction="q", text_instruction="")
    assert made.encoder._settings == Settings(
        model="any-name",
        spec=SpecOverrides(pooling="max", normalize=True, prompts={"query": "q", "document": ""}),
        source=Source(**place),
        **plain,
    )


@pytest.mark.parametrize(
    ("options", "word", "value"),
    [
        ({"model_kwargs": {"truncate_dim": 16}}, "dim", 16),
        ({"model_kwargs": {"revision": "v1"}}, "revision", "v1"),
        ({"model_kwargs": {"local_files_only": True}}, "local_files_only", True),
        ({"model_kwargs": {"cache_folder": "somewhere"}}, "cache_folder", "somewhere"),
        ({"encode_kwargs": {"truncate_dim": 16}}, "dim", 16),
        ({"encode_kwargs": {"truncate_dim": 16}, "model_kwargs": {"truncate_dim": 16}, "dim": 16}, "dim", 16),
        ({"encode_kwargs": {"normalize_embeddings": True}}, "normalize", True),
        ({"encode_kwargs": {"normalize_embeddings": False}}, "normalize", None),
        ({"encode_kwargs": {"show_progress_bar": True}}, "show_progress", True),
    ],
)
def test_langchain_arguments_are_translated(options, word, value):
    assert getattr(fake_langchain(**options), word) == value


def test_langchain_engine_is_translated():
    assert NimbedEmbeddings(model="any-name", model_kwargs={"backend": "fake"}).encoder.info.backend == "fake"


def test_langchain_arguments_that_cannot_change_a_vector(passages):
    embeddings = fake_langchain(
        multi_process=False,
        model_kwargs={
            "device": "cpu", "trust_remote_code": False, "token": None, "similarity_fn_name": "dot",
            "model_kwargs": {}, "local_files_only": False,
        },
        encode_kwargs={
            "batch_size": 7, "convert_to_numpy": True, "convert_to_tensor": True, "precision": "float32",
            "output_value": "sentence_embedding", "device": "cpu", "show_progress_bar": False, "prompt": None,
        },
    )  # fmt: skip
    assert embeddings.fingerprint == fake_langchain().fingerprint
    assert embeddings.embed_documents(passages) == fake_langchain().embed_documents(passages)


@pytest.mark.parametrize(
    ("place", "name", "value", "remedy"),
    [
        ("model_kwargs", "device", "cuda", "CPU"),
        ("model_kwargs", "trust_remote_code", True, "never runs"),
        ("model_kwargs", "token", "hf_secret", "hf auth login"),
        ("model_kwargs", "use_auth_token", "hf_secret", "HF_TOKEN"),
        ("model_kwargs", "backend", "onnx", "openvino"),
        ("model_kwargs", "model_kwargs", {"torch_dtype": "float16"}, "precision"),
        ("model_kwargs", "tokenizer_kwargs", {"padding_side": "left"}, "remove it"),
        ("model_kwargs", "processor_kwargs", {"padding_side": "left"}, "remove it"),
        ("model_kwargs", "config_kwargs", {"hidden_act": "relu"}, "remove it"),
        ("model_kwargs", "modules", [object()], "model_name"),
        ("model_kwargs", "prompts", "query: ", "dictionary of strings"),
        ("model_kwargs", "flash", 1, "not known"),
        ("encode_kwargs", "precision", "int8", "vector store"),
        ("encode_kwargs", "convert_to_numpy", False, "lists of floats"),
        ("encode_kwargs", "output_value", "token_embeddings", "sentence vectors"),
        ("encode_kwargs", "pool", {"processes": []}, "threads"),
        ("encode_kwargs", "chunk_size", 10, "threads"),
        ("encode_kwargs", "device", ["cpu", "cpu"], "CPU"),
        ("encode_kwargs", "sentences", ["a"], "not known"),
        ("query_encode_kwargs", "task", "query", "not known"),
    ],
)
def test_langchain_arguments_refused_by_name(place, name, value, remedy):
    with pytest.raises(InputError, match=rf"{place}\['{name}'\].*{remedy}") as caught:
        fake_langchain(**{place: {name: value}})
    assert "hf_secret" not in str(caught.value)


def test_more_processes_are_refused():
    with pytest.raises(InputError, match=r"multi_process=.*threads"):
        fake_langchain(multi_process=True)


@pytest.mark.parametrize(
    "options",
    [
        {"dim": 8, "model_kwargs": {"truncate_dim": 16}},
        {"model_kwargs": {"truncate_dim": 8}, "encode_kwargs": {"truncate_dim": 16}},
        {"encode_kwargs": {"truncate_dim": 8}, "query_encode_kwargs": {"truncate_dim": 16}},
        {"normalize": False, "encode_kwargs": {"normalize_embeddings": True}},
        {"revision": "a", "model_kwargs": {"revision": "b"}},
        {"backend": "fake", "model_kwargs": {"backend": "torch"}},
        {"text_instruction": "a", "encode_kwargs": {"prompt": "b"}},
        {"query_instruction": "a", "query_encode_kwargs": {"prompt": "b"}},
        {"query_instruction": "a", "model_kwargs": {"prompts": {"query": "b"}}},
        {"query_instruction": "a", "query_encode_kwargs": {"prompt_name": "sts"}},
        {"encode_kwargs": {"prompt": "a", "prompt_name": "sts"}},
    ],
)
def test_contradictions_are_errors(options):
    with pytest.raises(InputError, match=r"was given too|keep one"):
        fake_langchain(**options)


@pytest.mark.parametrize("options", [{"token": "hf_secret"}, {"model_name": "other"}, {"encode_kwargs": "hf_secret"}])
def test_unknown_or_mistyped_fields_are_named_without_their_value(options):
    with pytest.raises(ValidationError, match=next(iter(options))) as caught:
        fake_langchain(**options)
    assert "hf_secret" not in str(caught.value)


QUERY, PASSAGE = {"query": "q: "}, {"passage": "p: "}


@pytest.mark.parametrize(
    ("options", "query", "document"),
    [
        ({"query_instruction": "q: ", "text_instruction": "p: "}, "q: ", "p: "),
        ({"encode_kwargs": {"prompt": "p: "}, "query_encode_kwargs": {"prompt": "q: "}}, "q: ", "p: "),
        ({"encode_kwargs": {"prompt": "p: "}}, "p: ", "p: "),
        ({"encode_kwargs": {"prompt": "p: "}, "query_instruction": "q: "}, "q: ", "p: "),
        ({"encode_kwargs": {"prompt": "p: "}, "query_encode_kwargs": {"batch_size": 1}}, "", "p: "),
        ({"encode_kwargs": {"prompt_name": "document"}, "query_encode_kwargs": {"prompt_name": "query"}}, "", ""),
        ({"model_kwargs": {"prompts": {**QUERY, **PASSAGE}}}, "q: ", "p: "),
        ({"model_kwargs": {"prompts": QUERY, "default_prompt_name": "query"}}, "q: ", "q: "),
        ({"model_kwargs": {"prompts": {"a": "x: ", **QUERY}}, "encode_kwargs": {"prompt_name": "a"}}, "x: ", "x: "),
        ({"model_kwargs": {"prompts": {"a": None, **QUERY}}, "encode_kwargs": {"prompt": ""}}, "", ""),
    ],
)
def test_prompts_by_role(options, query, document):
    prompts = fake_langchain(**options).encoder.info.prompts
    assert (prompts.get("query", ""), prompts.get("document", "")) == (query, document)


@pytest.mark.parametrize(
    ("options", "query", "document"),
    [
        ({}, "query: ", "passage: "),
        ({"query_instruction": "", "text_instruction": ""}, "", ""),
        ({"encode_kwargs": {"prompt_name": "sts"}}, "same meaning: ", "same meaning: "),
        ({"encode_kwargs": {"prompt_name": "passage"}, "query_encode_kwargs": {"prompt_name": "query"}},
         "query: ", "passage: "),
        ({"model_kwargs": {"default_prompt_name": "sts"}, "query_instruction": "q: "}, "q: ", "same meaning: "),
    ],
)  # fmt: skip
def test_prompts_that_the_folder_names(prompted_folder, options, query, document, passages):
    embeddings = NimbedEmbeddings(model=prompted_folder, backend="fake", **options)
    plain = NimbedEmbeddings(model=prompted_folder, backend="fake", query_instruction="", text_instruction="")
    assert embeddings.embed_query(passages[0]) == plain.embed_query(query + passages[0])
    assert embeddings.embed_documents(passages) == plain.embed_documents([document + p for p in passages])


def test_prompt_names_that_nobody_knows_are_errors(prompted_folder):
    with pytest.raises(InputError, match=r"'wrong'.*passage, query, sts"):
        NimbedEmbeddings(model=prompted_folder, backend="fake", encode_kwargs={"prompt_name": "wrong"})


def test_llama_index_arguments_that_say_nothing_new():
    embedding = fake_llama_index(
        device="cpu", trust_remote_code=False, parallel_process=False, target_devices=None, token=None,
        tokenizer_name="deprecated", model_kwargs={}, similarity_fn_name="cosine",
    )  # fmt: skip
    assert embedding.to_dict() == fake_llama_index().to_dict()


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("device", "cuda:0", "CPU"),
        ("trust_remote_code", True, "never runs"),
        ("token", "hf_secret", "hf auth login"),
        ("parallel_process", True, "threads"),
        ("target_devices", ["cpu", "cpu"], "threads"),
        ("tokenizer", object(), "model folder"),
        ("tokenizer_name", "bert-base-uncased", "model folder"),
        ("prompts", {"query": "q: "}, "query_instruction"),
        ("default_prompt_name", "query", "query_instruction"),
        ("model_kwargs", {"torch_dtype": "float16"}, "precision"),
        ("flash", 1, "not known"),
    ],
)
def test_llama_index_arguments_refused_by_name(name, value, remedy):
    with pytest.raises(InputError, match=f"{name}=.*{remedy}") as caught:
        fake_llama_index(**{name: value})
    assert "hf_secret" not in str(caught.value)


def test_llama_index_arguments_are_translated():
    assert fake_llama_index(truncate_dim=16).dim == 16
    with pytest.raises(InputError, match=r"truncate_dim=.*dim=8 was given too"):
        fake_llama_index(truncate_dim=16, dim=8)
    with pytest.raises(InputError, match=r"model=.*model_name='any-name' was given too"):
        fake_llama_index(model="other")
