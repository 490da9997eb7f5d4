"""Folders of every family that don't hold what they say, end to end: refused by file and key, or the right vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import AutoModel

from nimbed import Encoder, Reranker, SpecOverrides, quantize
from nimbed.errors import InputError, SpecError
from nimbed.spec import read_spec
from tests.support.building import in_process
from tests.support.described import change, cosine, save, tensors_of, written
from tests.support.networks import real_texts, token_ids
from tests.support.oracles import oracle_vectors, pooled
from tests.support.rotary_families import FAMILIES

pytestmark = pytest.mark.usefixtures("native", "one_torch_thread")
EMBEDDING = [name for name, family in FAMILIES.items() if not family.scores]
LAYER_1 = ("encoder.layer.1.", "encoder.layers.1.", "transformer.layer.1.", "layers.1.")


def not_opened(folder, says):
    opening = Reranker if FAMILIES[folder.name].scores else Encoder
    with pytest.raises(SpecError, match=says):
        opening(folder, backend="native", precision="fp32")


def refused(folder, says):
    """Neither opened nor built."""
    not_opened(folder, says)
    with in_process(), pytest.raises(SpecError, match=says):
        quantize(folder, folder.parent / "out", backend="native", progress=False)
    assert not (folder.parent / "out").exists()


def vectors_of(folder):
    with Encoder(folder, backend="native", precision="fp32", truncate="silent", cache=None) as encoder:
        return encoder.encode(real_texts(3))


def some_weight(tensors):
    """A matrix of the second layer."""
    names = (name for name, one in tensors.items() if one.ndim == 2 and any(layer in name for layer in LAYER_1))
    return min(names)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tensor_that_is_missing_too_many_misshapen_or_not_finite_is_named(family, tmp_path):
    folder = written(family, tmp_path / family)
    tensors = tensors_of(folder)
    name = some_weight(tensors)
    weight, others = tensors[name], {other: values for other, values in tensors.items() if other != name}
    spoiled = weight.copy()
    not_opened(save(folder, others), rf"model\.safetensors lacks {name.partition('.parametrizations')[0]}")
    not_opened(save(folder, {**others, name: weight[:, :-1]}), rf"model\.safetensors.*{name}.*shape")
    extra = name.replace(".1.", ".7.")
    not_opened(save(folder, {**tensors, extra: weight}), rf"model\.safetensors.*{extra}")
    for value in (np.nan, -np.inf):
        spoiled[-1, -1] = value
        not_opened(save(folder, {**others, name: spoiled}), rf"model\.safetensors.*{name}.*finite")


@pytest.mark.parametrize(
    ("family", "keys", "says"),
    [
        ("modernbert", {"local_attention": 0}, "local_attention"),
        ("bert", {"num_attention_heads": 7}, "num_attention_heads"),
        ("distilbert", {"n_heads": 7}, "n_heads"),
        ("nomic-bert-remote", {"n_head": 5}, "n_head"),
        ("modernbert", {"num_attention_heads": 96}, "is odd"),
        (
            "bert",
            {"type_vocab_size": 1},
            r"model\.safetensors: embeddings\.token_type_embeddings\.weight has the shape",
        ),
        ("bert", {"max_position_embeddings": 63}, r"position_embeddings\.weight has the shape"),
        ("jina-v3-remote", {"lora_rank": 8}, "lora_A has the shape"),
        ("jina-v3-remote", {"lora_adaptations": ["retrieval.query", "retrieval.passage"]}, "lora_A has the shape"),
        ("electra-cross", {"embedding_size": 48}, "embedding_size"),
        ("bert-cross", {"hidden_act": "mish"}, "hidden_act"),
        ("gte-new", {"rope_scaling": {"type": "yarn", "factor": 2.0}}, "rope_scaling"),
        ("mpnet", {"relative_attention_num_buckets": 64}, r"config\.json: relative_attention_num_buckets"),
        ("jina-v3-remote", {"lora_adaptations": ["retrieval.query"] * 2 + ["retrieval.passage"]}, "lora_adaptations"),
    ],
)
def test_settings_that_make_no_such_network_are_named(family, keys, says, tmp_path):
    refused(change(written(family, tmp_path / family), **keys), says)


@torch.inference_mode()
def transformers_vectors(folder, ids):
    """By the class that the config names, which reads these keys itself."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    return pooled(folder, [model(torch.tensor([one])).last_hidden_state[0].numpy() for one in ids])


LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 77.0}


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("modernbert", {"position_embedding_type": "sans_pos"}),
        ("modernbert", {"rope_parameters": {"full_attention": {"type": "linear", "factor": 4.0, "rope_theta": 50.0}}}),
        ("nomic-bert", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
        ("nomic-bert", {"rope_scaling": LINEAR}),
        ("jina-v3", {"rope_parameters": LINEAR}),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "native", "torch"])
def test_settings_that_transformers_honours_give_its_vectors(family, keys, backend, tmp_path):
    folder = change(written(family, tmp_path / family, variant="plain"), **keys)
    texts, spec = real_texts(3), read_spec(folder)
    ids = token_ids(folder, [spec.prompt("document") + text for text in texts], longest=spec.max_length)
    with Encoder(folder, backend=backend, precision="fp32", truncate="silent", cache=None) as encoder:
        assert cosine(encoder.encode(texts), transformers_vectors(folder, ids)) > 0.999999
        assert encoder.info.backend == ("torch" if backend == "torch" else "native")


def test_another_engine_runs_what_the_native_one_has_no_room_for(tmp_path):
    folder = written("bert", tmp_path / "bert", variant="plain")
    wanted, tensors, name = vectors_of(folder), tensors_of(folder), "embeddings.token_type_embeddings.weight"
    change(save(folder, {**tensors, name: np.resize(tensors[name], (1025, 96))}), type_vocab_size=1025)
    refused(folder, r"config\.json: type_vocab_size: 1025 is not one of the 1024")
    with in_process(), Encoder(folder, precision="fp32", truncate="silent", cache=None) as encoder:
        assert encoder.info.backend == "openvino"
        assert "type_vocab_size: 1025" in encoder.info.reasons["backend"]
        assert cosine(encoder.encode(real_texts(3)), wanted) > 0.999999


# What only the code of such folders knows, or what transformers' class no longer does.
LOOK_ALIKES = [
    ("jina-bert-v2", {"attn_type": "flash"}, "attn_type"),
    ("jina-bert-v2", {"feed_forward_type": "mixture"}, "feed_forward_type"),
    ("nomic-bert-remote", {"use_rms_norm": True}, "use_rms_norm"),
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("bert", {"position_embedding_type": ["absolute"]}, "position_embedding_type"),
    ("bert", {"position_embedding_type": "sans_pos"}, "position_embedding_type"),
]


@pytest.mark.parametrize("backend", ["auto", "native", "openvino", "torch"])
@pytest.mark.parametrize(("family", "keys", "says"), LOOK_ALIKES)
def test_no_class_of_transformers_stands_in_for_another_network(family, keys, says, backend, tmp_path):
    folder = change(written(family, tmp_path / family), **keys)
    says = rf"config\.json: {says}" if backend in {"auto", "native"} else r"config\.json: (auto_map|position_embedd)"
    with pytest.raises(SpecError, match=says):
        Encoder(folder, backend=backend)
    if backend != "torch":
        with in_process(), pytest.raises(SpecError, match=says):
            quantize(folder, tmp_path / "out", backend=backend, progress=False)


def test_a_part_that_is_not_there_is_named(tmp_path):
    folder = written("gte", tmp_path / "gte")
    places = dict.fromkeys(tensors_of(folder), "model-00001-of-00002.safetensors")
    places[some_weight(tensors_of(folder))] = "model-00002-of-00002.safetensors"
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    refused(folder, r"model-00002-of-00002\.safetensors is missing")


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert"])
def test_a_table_of_words_under_a_heads_name_alone_is_missed(family, tmp_path):
    """A masked-LM head is tied to it, and some tools keep one of the two."""
    folder = written(family, tmp_path / family)
    tensors = tensors_of(folder)
    name = next(name for name in tensors if "word_embeddings" in name or "tok_embeddings" in name)
    tied = {**tensors, "decoder.weight": tensors[name]}
    wanted = vectors_of(folder)
    np.testing.assert_array_equal(vectors_of(save(folder, tied)), wanted)
    refused(save(folder, {k: v for k, v in tied.items() if k != name}), rf"model\.safetensors lacks .*{name}")


@pytest.mark.parametrize("family", [name for name in EMBEDDING if name not in {"modernbert-cls", "nomic-bert", "gte"}])
def test_prefixes_and_half_precision_are_of_no_account(family, tmp_path):
    folder = written(family, tmp_path / family, variant="plain")
    wanted, tensors = vectors_of(folder), tensors_of(folder)
    prefix = FAMILIES[family].prefix
    for other in ("", "model.", "bert."):
        renamed = {other + name.removeprefix(prefix): values for name, values in tensors.items()}
        np.testing.assert_array_equal(vectors_of(save(folder, renamed)), wanted)
    spec = read_spec(folder)
    ids = token_ids(folder, [spec.prompt("document") + text for text in real_texts(3)], longest=spec.max_length)
    for kind in ("float16", "bfloat16"):
        halved(save(folder, tensors), kind)
        assert cosine(vectors_of(folder), oracle_vectors(folder, ids, task=spec.adapter("document") or None)) > 0.999999


def halved(folder, kind):
    file = folder / "model.safetensors"
    narrow = {name: one.to(getattr(torch, kind)) for name, one in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(narrow, file, {"format": "pt"})


def test_a_task_that_the_model_lacks_is_named(tmp_path):
    with pytest.raises(InputError, match=r"task='haiku'.*the model knows retrieval, separation"):
        Encoder(written("jina-v3-remote", tmp_path), backend="native", spec=SpecOverrides(task="haiku"))


@pytest.mark.parametrize("backend", ["auto", "native", "openvino", "torch"])
@pytest.mark.parametrize("prefix", ["bert.", "model."])
def test_no_engine_mixes_two_encoders(prefix, backend, tmp_path):
    folder = written("bert", tmp_path / "bert")
    tensors = tensors_of(folder)
    other = {name: one + 1 for name, one in tensors.items() if name.startswith("encoder.")}
    save(folder, {**{prefix + name: one for name, one in tensors.items()}, **other})
    with pytest.raises(SpecError, match=r"model\.safetensors: .*encoder\.layer\..* are one tensor of the network"):
        Encoder(folder, backend=backend)


@pytest.mark.parametrize("name", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.bias"])
def test_float64_that_is_too_large_for_fp32_is_named(name, tmp_path):
    """Though no text has the token: it would be an infinity in the table."""
    folder = written("bert", tmp_path / "bert")
    tensors = {key: one.astype(np.float64) for key, one in tensors_of(folder).items()}
    tensors[name].flat[97 if tensors[name].ndim > 1 else 3] = -1e300
    refused(
        save(folder, tensors), rf"model\.safetensors: {name} has numbers that are NaN or infinite, or are so in fp32"
    )
