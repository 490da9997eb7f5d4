"""Adapters for tasks: which a folder has, which the user means, and what else follows from that."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from tests.support.model_folders import BERT, OLD, candidate_of, refused, write

from nimbed import Encoder, SpecOverrides
from nimbed._loading.build import make_request
from nimbed._loading.hub import Source
from nimbed._model_folder.task_adapters import task_and_role, task_of
from nimbed.backends import fake
from nimbed.errors import InputError, SpecError
from nimbed.spec import read_spec, spec_from_dict

NAMES = ["retrieval.query", "retrieval.passage", "separation", "classification", "text-matching"]
QUERY, PASSAGE = "Represent the query for retrieving evidence documents: ", "Represent the document for retrieval: "
PROMPTS = {"retrieval.query": QUERY, "retrieval.passage": PASSAGE, "separation": "", "text-matching": ""}
SENTENCES = "config_sentence_transformers.json"


def jina(place, names=NAMES, **files):
    """As jina-embeddings-v3 is published, without the code that it names."""
    config = {**BERT, "lora_adaptations": names, "task_instructions": PROMPTS}
    return write(place, files={"config.json": config, SENTENCES: {"prompts": PROMPTS}, **files})


@pytest.mark.parametrize(
    ("task", "adapters", "prompts"),
    [
        (None, ("retrieval.query", "retrieval.passage"), (QUERY, PASSAGE)),
        ("retrieval", ("retrieval.query", "retrieval.passage"), (QUERY, PASSAGE)),
        ("text-matching", ("text-matching",) * 2, ("", "")),
        ("classification", ("classification",) * 2, ("", "")),
        ("separation", ("separation",) * 2, ("", "")),
    ],
)
@pytest.mark.parametrize("said", [SENTENCES, "config.json"])
def test_a_task_is_an_adapter_for_each_role_and_its_prompts(tmp_path, task, adapters, prompts, said):
    folder = jina(tmp_path / "jina-embeddings-v3", **({} if said == SENTENCES else {SENTENCES: {}}))
    spec = read_spec(folder, overrides=SpecOverrides(task=task))
    assert (spec.adapter("query"), spec.adapter("document")) == (adapters[0], adapters[-1])
    assert (spec.prompt("query"), spec.prompt("document")) == prompts
    assert task_of(spec.adapters) == (task or "retrieval")
    assert spec.origins["task"] == ("set by the user" if task else "the model's adapters")
    assert spec_from_dict(json.loads(json.dumps(asdict(spec)))) == spec


def test_the_familys_prompts_are_those_of_retrieval(tmp_path):
    config = {**BERT, "lora_adaptations": NAMES}
    folder = write(tmp_path / "jina-embeddings-v3", files={"config.json": config})
    assert read_spec(folder).prompt("query") == QUERY
    assert read_spec(folder, overrides=SpecOverrides(task="text-matching")).prompt("query") == ""


def test_the_users_prompts_go_before(tmp_path):
    spec = read_spec(jina(tmp_path), overrides=SpecOverrides(task="separation", prompts={"query": "mine: "}))
    assert (spec.prompt("query"), spec.prompt("document")) == ("mine: ", "")


@pytest.mark.parametrize(
    ("names", "task", "error", "says"),
    [
        (NAMES, "search", InputError, "task='search'.*knows retrieval, separation, classification, text-matching"),
        (NAMES, "retrieval.query", InputError, "knows retrieval, separation"),
        (None, "search", InputError, "there is no prompt for this task; the model knows retrieval"),
        (["separation"], None, SpecError, "lora_adaptations: none is for retrieval; say which.*one of separation"),
        (["retrieval.query", "a"], None, SpecError, "none is for retrieval.*one of a"),
        ("retrieval", None, SpecError, "lora_adaptations: .* is not a list of names"),
        (["", 3], None, SpecError, "is not a list of names"),
    ],
)
def test_tasks_that_a_model_does_not_have(tmp_path, names, task, error, says):
    with pytest.raises(error, match=says):
        read_spec(jina(tmp_path, names), overrides=SpecOverrides(task=task))


def test_prompts_of_tasks_that_are_none(tmp_path):
    config = {**BERT, "lora_adaptations": NAMES, "task_instructions": {"separation": 3}}
    refused(write(tmp_path, files={"config.json": config}), "config.json", "task_instructions", "names with strings")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("retrieval.passage", ("retrieval", "document")),
        ("Retrieval-query", ("Retrieval", "query")),
        ("Retrieval-document", ("Retrieval", "document")),
        ("text-matching", ("text-matching", None)),
        (".query", (".query", None)),
        ("query", ("query", None)),
    ],
)
def test_a_name_may_say_a_role(name, parts):
    assert task_and_role(name) == parts


def test_a_task_is_a_string():
    with pytest.raises(InputError, match="task=3 must be a string"):
        SpecOverrides(task=3)
    with pytest.raises(
        InputError, match="the model has no adapters for tasks, no prompts by the names of tasks and no instruction"
    ):
        Encoder("any-name", backend="fake", spec=SpecOverrides(task="retrieval"))


@pytest.fixture
def folder(tmp_path):
    more = {"tokenizer.json": fake.tokenizer().to_str(), "openvino_model.xml": "<net/>"}
    return jina(tmp_path / "model", **more)


def test_each_task_has_a_fingerprint_and_a_key_of_its_own(folder):
    found, keys = {}, set()
    for task in ("retrieval", "text-matching", "separation"):
        spec = SpecOverrides(task=task, prompts={"query": "", "document": ""})
        with Encoder(folder, backend="fake", spec=spec) as encoder:
            found[task] = encoder.fingerprint
        candidate = candidate_of(folder, overrides=spec)
        keys.add(make_request(candidate, "int8", source=Source()).key)
    assert len(set(found.values())) == len(keys) == 3


def test_roles_of_two_adapters_do_not_share_the_cache(folder):
    """The same text with the same prompt is another vector behind another adapter."""
    for task, hits in {"retrieval": 0, "text-matching": 1}.items():
        spec = SpecOverrides(task=task, prompts={"query": "", "document": ""})
        with Encoder(folder, backend="fake", spec=spec) as encoder:
            encoder.encode(["one text"])
            encoder.encode_query("one text")
            assert encoder.stats().cache.hits == hits


@pytest.mark.parametrize("backend", ["auto", "openvino", "torch"])
def test_engines_that_add_no_adapters_refuse_the_model(folder, backend):
    with pytest.raises(
        SpecError, match=r"need adapters for a task \(retrieval\.query, retrieval\.passage\), which the"
    ):
        Encoder(folder, backend=backend)


def known(monkeypatch):
    monkeypatch.setattr("nimbed.spec.knows", lambda config: config.get("model_type") == "bert")


def test_remote_code_is_not_needed_where_the_network_is_known(tmp_path, monkeypatch):
    config = {**BERT, "auto_map": {"AutoModel": "modeling.Custom"}}
    folder = write(tmp_path, files={"config.json": config})
    refused(folder, "config.json", "auto_map", "never runs", "none that nimbed knows")
    known(monkeypatch)
    assert read_spec(folder).pooling == "mean"
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "other"}))
    refused(folder, "config.json", "auto_map")


CHOOSING = {**OLD, "Transformer": "custom_st.Transformer"}


def with_its_class(place, config, **more):
    folder = write(place, files={"config.json": config}, types=CHOOSING)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= more
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_a_class_that_only_chooses_adapters_is_a_transformer(tmp_path, monkeypatch):
    config = {**BERT, "lora_adaptations": NAMES, "auto_map": {"AutoModel": "other--modeling.Custom"}}
    folder = with_its_class(tmp_path / "jina", config, kwargs=["task"])
    refused(folder, "config.json", "auto_map")
    known(monkeypatch)
    assert read_spec(folder).pooling == "mean"
    refused(with_its_class(tmp_path / "none", BERT, kwargs=["task"]), "modules.json", "custom_st.Transformer")
    refused(with_its_class(tmp_path / "more", config, kwargs=["prompt"]), "modules.json", "custom_st.Transformer")
    folder = with_its_class(tmp_path / "other", config, type="other_st.Transformer")
    refused(folder, "modules.json", "other_st.Transformer")


def test_jinas_own_config_needs_no_code(tmp_path):
    """The table of networks knows it by its settings, though its model_type is XLM-RoBERTa's."""
    code = {"AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA"}
    config = {
        **BERT, "model_type": "xlm-roberta", "position_embedding_type": "rotary", "rotary_emb_base": 20000.0,
        "lora_adaptations": NAMES, "lora_rank": 4, "lora_alpha": 1, "pad_token_id": 1, "auto_map": code,
        "matryoshka_dimensions": [8, 16, 32], "task_instructions": PROMPTS,
    }  # fmt: skip
    spec = read_spec(with_its_class(tmp_path / "jina-embeddings-v3", config, kwargs=["task"]))
    assert dict(spec.adapters) == {"query": "retrieval.query", "document": "retrieval.passage"}
    assert (spec.prompt("query"), spec.prompt("document"), spec.dims) == (QUERY, PASSAGE, (32, 16, 8))
