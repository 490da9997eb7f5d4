"""jina-embeddings-v5's folders end to end: PEFT's adapters are merged; vectors are those of transformers' classes."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nimbed import Calibration, Encoder, SpecOverrides
from nimbed.errors import InputError, SpecError
from nimbed.quantization import QualityGate
from nimbed.quantization.calibration import read_texts
from tests.support.building import build_here
from tests.support.described import change, cosine, written
from tests.support.jina_v5 import (
    ALPHA,
    BASES,
    RANK,
    TASKS,
    adapter_tensors,
    merged,
    write_adapter,
    write_jina_v5,
)
from tests.support.networks import real_texts, token_ids
from tests.support.oracles import oracle_vectors

pytestmark = pytest.mark.usefixtures("native", "one_torch_thread")
TEXTS = real_texts(8)
NATIVE = {"backend": "native", "precision": "fp32", "truncate": "silent", "cache": None}


def vectors(folder, task=None, role="document", **options):
    with Encoder(folder, **{**NATIVE, **options}, spec=SpecOverrides(task=task)) as encoder:
        return encoder.encode(TEXTS, role=role)


def wanted(plain, prompt):
    return oracle_vectors(plain, token_ids(plain, [prompt + text for text in TEXTS], longest=64))


@pytest.mark.parametrize("task", [None, *TASKS[:2]])
@pytest.mark.parametrize("size", BASES)
def test_vectors_of_a_task_are_those_of_the_class_with_the_adapter_merged(size, task, tmp_path):
    folder = write_jina_v5(tmp_path / "jina", size)
    plain = merged(folder, tmp_path / "plain", size, task or "retrieval")
    assert cosine(vectors(folder, task), wanted(plain, "Document: ")) >= 0.999999
    assert cosine(vectors(folder, task, "query"), wanted(plain, "Query: ")) >= 0.999999
    base = written(BASES[size], tmp_path / "base", variant="plain")
    (base / "1_Pooling" / "config.json").write_text('{"pooling_mode": "lasttoken"}')
    assert cosine(vectors(folder, task), wanted(base, "Document: ")) < 0.99


@pytest.mark.parametrize("size", BASES)
def test_merged_repositories_are_plain_folders(size, tmp_path):
    """As jina-embeddings-v5-text-nano-retrieval: its code is EuroBERT's own, its modules are the usual ones."""
    folder = write_jina_v5(tmp_path / "jina", size)
    plain = merged(folder, tmp_path / f"jina-embeddings-v5-text-{size}-retrieval", size, "retrieval")
    exact = vectors(folder)
    code = {"AutoModel": "modeling_eurobert.EuroBertModel"} if size == "nano" else None
    change(plain, auto_map=code, task_names=list(TASKS))
    np.testing.assert_allclose(vectors(plain), exact, atol=2e-5)
    with Encoder(plain, **NATIVE) as encoder:
        assert dict(encoder.info.prompts) == {"query": "Query: ", "document": "Document: "}
        assert 32 in encoder._opened().engine.spec.dims
    with pytest.raises(InputError, match="no adapters for tasks"):
        vectors(plain, "retrieval")


def test_8_bits_are_near_and_each_task_is_a_build_of_its_own(tmp_path):
    folder, texts = write_jina_v5(tmp_path / "jina", "nano"), read_texts(None)
    calibration = Calibration(texts=[*texts[:60], *texts[-60:]], count=40)
    found = {}
    for task in ("retrieval", "clustering"):
        artefact = build_here(
            folder, tmp_path / task, backend="native", calibration=calibration, gate=QualityGate(min_cosine=0.95),
            spec=SpecOverrides(task=task),
        )  # fmt: skip
        assert cosine(vectors(artefact.folder, precision="int8"), vectors(folder, task)) >= 0.99
        found[task] = artefact.manifest
        with pytest.raises(InputError, match=f"was built for the task {task}, not for 'text-matching'"):
            vectors(artefact.folder, "text-matching", precision="int8")
    assert found["retrieval"].key != found["clustering"].key


def test_rank_stabilized_adapters_are_scaled_by_the_root(tmp_path):
    folder = write_jina_v5(tmp_path / "jina", "nano")
    write_adapter(folder, "retrieval", use_rslora=True)
    plain = merged(folder, tmp_path / "plain", "nano", "retrieval", scale=ALPHA / math.sqrt(RANK))
    assert cosine(vectors(folder), wanted(plain, "Document: ")) >= 0.999999


def test_another_adapter_is_another_fingerprint(tmp_path):
    folder, found = write_jina_v5(tmp_path / "jina", "nano"), set()
    for change_of in ({}, {"lora_alpha": 7}, {"r": RANK, "lora_alpha": ALPHA}):
        write_adapter(folder, "retrieval", **change_of)
        with Encoder(folder, **NATIVE) as encoder:
            found.add(encoder.fingerprint)
    tensors = adapter_tensors(folder, "retrieval")
    write_adapter(folder, "retrieval", {name: 2 * one for name, one in tensors.items()})
    with Encoder(folder, **NATIVE) as encoder:
        found.add(encoder.fingerprint)
    assert len(found) == 3


@pytest.fixture
def folder(tmp_path):
    return write_jina_v5(tmp_path / "jina", "nano", variant="drawn")


def refused(folder, says):
    with pytest.raises(SpecError, match=says):
        vectors(folder)


def test_factors_that_fit_no_weight_are_named(folder):
    tensors = adapter_tensors(folder, "retrieval")
    half, other = "base_model.model.layers.1.mlp.up_proj.lora_B.weight", "layers.1.mlp.up_proj.lora_B.weight"
    for spoiled in (tensors[half][:-1], tensors[half].T, tensors[half][:, :-1]):
        write_adapter(folder, "retrieval", {**tensors, half: np.ascontiguousarray(spoiled)})
        refused(folder, rf"retrieval/adapter_model\.safetensors: {other} has the shape")
    write_adapter(folder, "retrieval", {**tensors, half: tensors[half].astype(np.int32)})
    refused(folder, rf"{other} has the shape .* of int32")
    write_adapter(folder, "retrieval", {**tensors, half: np.full_like(tensors[half], np.nan)})
    refused(folder, r"retrieval/adapter_model\.safetensors: .*NaN")
    write_adapter(folder, "retrieval", {name: one for name, one in tensors.items() if name != half})
    refused(folder, rf"retrieval/adapter_model\.safetensors lacks {other}")
    extra = "base_model.model.embed_tokens.lora_embedding_A"
    write_adapter(folder, "retrieval", {**tensors, extra: tensors[half]})
    refused(folder, r"retrieval/adapter_model\.safetensors: embed_tokens\.lora_embedding_A \(and 0 more\) is no factor")
    write_adapter(folder, "retrieval", tensors, r=RANK + 1)
    refused(folder, r"lora_[AB]\.weight has the shape")
    write_adapter(folder, "retrieval", tensors, target_modules=["q_proj"])
    refused(folder, r"is no factor of a target")
    write_adapter(folder, "retrieval", tensors, target_modules="all-linear")
    assert np.isfinite(vectors(folder)).all()


def test_files_that_are_missing_or_outside_are_named(folder, tmp_path):
    place = folder / "adapters" / "retrieval"
    weights = place / "adapter_model.safetensors"
    outside = tmp_path / "outside.safetensors"
    weights.rename(outside)
    refused(folder, r"retrieval/adapter_model\.safetensors is missing, and config\.json names the adapter 'retrieval'")
    weights.symlink_to(outside)
    refused(folder, r"adapter_model\.safetensors is a link that leads out of the model folder")
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()),
                                                    "task_names": ["../../outside"]}))  # fmt: skip
    with pytest.raises(SpecError, match=r"config\.json: task_names: 'adapters/\.\./\.\./outside' is no name inside"):
        vectors(folder, "../../outside")
    place.rename(tmp_path / "gone")


def test_an_adapter_without_its_base_names_it(folder, tmp_path):
    alone = (folder / "adapters" / "retrieval").rename(tmp_path / "alone")
    with pytest.raises(
        SpecError, match=r'base_model_name_or_path: "?jinaai/jina-embeddings-v5-text-nano.*does not fetch unasked.*peft'
    ):
        vectors(alone)


@pytest.mark.parametrize("backend", ["auto", "openvino", "torch"])
def test_other_engines_refuse_it(backend, folder):
    write_adapter(folder, "retrieval", r="four")
    says = r"need adapters for a task|adapter_config\.json: r"
    with pytest.raises(SpecError, match=says):
        vectors(folder, backend=backend)
