"""The oracles agree with transformers' classes, and rounding that is too crude fails on the seeded networks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.networks import branch_sizes, config_of, real_texts, token_ids, write_folder, write_tensors
from tests.support.oracles import oracle_layers, oracle_scores, oracle_vectors, plain_encoder, pooled
from tests.support.plain_encoder import PlainEncoder, alibi_slopes, buckets
from tests.support.rotary_families import FAMILIES, TASKS
from tests.support.rounding import error_over_spread, verdict, with_rounded_weights

pytestmark = pytest.mark.usefixtures("one_torch_thread")
EMBEDDING = [name for name, family in FAMILIES.items() if not family.scores]
SCORING = [name for name, family in FAMILIES.items() if family.scores]
HAVE_CLASSES = [name for name in EMBEDDING if FAMILIES[name].has_class]


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first * second).sum(-1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """One folder a family and variant."""
    made = {}

    def folder(family, variant="plain"):
        if (family, variant) not in made:
            made[family, variant] = write_folder(family, tmp_path_factory.mktemp(family), variant=variant)
        return made[family, variant]

    return folder


@pytest.mark.parametrize("family", HAVE_CLASSES)
def test_the_plain_encoder_computes_what_the_class_of_transformers_does(folder_of, family):
    folder = folder_of(family)
    encoder, ids = plain_encoder(folder), token_ids(folder, real_texts(4), longest=48)
    assert max(map(len, ids)) > 40  # further than the small window of ModernBERT's
    with torch.inference_mode():
        for one, states in zip(ids, oracle_layers(folder, ids), strict=True):
            plain = encoder.layers(one)
            assert len(states) == len(plain) == encoder.anatomy.layers + 2
            for state, other in zip(states, plain, strict=True):
                assert cosines(state, other.numpy()).min() > 1 - 1e-6
                np.testing.assert_allclose(state, other.numpy(), atol=1e-4 * np.abs(state).max())


@pytest.mark.parametrize("family", SCORING)
def test_so_it_does_for_cross_encoders(folder_of, family):
    folder = folder_of(family)
    encoder, ids = plain_encoder(folder), token_ids(folder, real_texts(4), longest=48)
    second = int(encoder.anatomy.types > 1)
    types = [[0] * 8 + [second] * (len(one) - 8) for one in ids]
    with torch.inference_mode():
        tokens = [encoder.tokens(one, kinds) for one, kinds in zip(ids, types, strict=True)]
        picked = [one[0] if FAMILIES[family].pooling == "cls" else one.mean(0) for one in tokens]
        scores = torch.stack([encoder.score(one) for one in picked]).numpy()
    np.testing.assert_allclose(scores, oracle_scores(folder, ids, types), atol=1e-4)


@pytest.mark.parametrize(
    ("family", "remote"), [("nomic-bert", "nomic-bert-remote"), ("gte", "gte-new"), ("jina-v3", "jina-v3-remote")]
)
def test_both_names_of_a_network_hold_the_same(folder_of, family, remote):
    first, second = folder_of(family), folder_of(remote)
    assert load_file(first / "model.safetensors").keys() != load_file(second / "model.safetensors").keys()
    ids = token_ids(first, real_texts(4), longest=48)
    assert cosines(oracle_vectors(first, ids), oracle_vectors(second, ids)).min() > 1 - 1e-6


def test_an_adapter_that_is_merged_is_the_network_of_its_task(folder_of, tmp_path):
    remote, ids = folder_of("jina-v3-remote"), None
    ids = token_ids(remote, real_texts(4), longest=48)
    plain = oracle_vectors(remote, ids)
    for task in TASKS[:2]:
        folder = write_folder("jina-v3", tmp_path / task, variant="drawn")
        encoder = plain_encoder(remote, task=task)
        family = FAMILIES["jina-v3"]
        write_tensors(family, encoder.anatomy, encoder.tensors, config_of(family, "tiny"), folder)
        vectors = oracle_vectors(remote, ids, task=task)
        assert cosines(vectors, oracle_vectors(folder, ids)).min() > 1 - 1e-6
        assert cosines(vectors, plain).max() < 0.999


def test_the_same_arguments_write_the_same_bytes(folder_of, tmp_path):
    first = folder_of("modernbert", "planted")
    second = write_folder("modernbert", tmp_path, variant="planted")
    for file in first.rglob("*.*"):
        assert file.read_bytes() == (second / file.relative_to(first)).read_bytes(), file.name


@pytest.mark.parametrize("family", ["bert", "modernbert", "gte"])
def test_branches_are_as_large_as_what_they_join(folder_of, family):
    ids = token_ids(folder_of(family), real_texts(12), longest=48)
    sizes = {}
    for variant in ("drawn", "plain"):
        encoder = plain_encoder(folder_of(family, variant))
        with torch.inference_mode():
            sizes[variant] = branch_sizes(encoder.anatomy, encoder.tensors, ids)
    assert max(sizes["drawn"]) < 0.5
    np.testing.assert_allclose(sizes["plain"], 1, atol=0.15)


def rounded(folder, bits, documents=32):
    """The verdict on a network whose linear layers have weights of so many bits."""
    texts = real_texts(documents)
    ids = token_ids(folder, [*texts, *(" ".join(text.split()[:12]) for text in texts[::2])], longest=48)
    exact = plain_encoder(folder)
    crude = PlainEncoder(exact.anatomy, with_rounded_weights(exact.tensors, bits))
    with torch.inference_mode():
        vectors = [pooled(folder, [encoder.tokens(one).numpy() for one in ids]) for encoder in (exact, crude)]
    return verdict(*vectors, documents)


@pytest.mark.parametrize("variant", ["plain", "planted"])
@pytest.mark.parametrize(
    "family", [name for name in EMBEDDING if name not in {"nomic-bert-remote", "gte", "jina-v3-remote"}]
)
def test_weights_of_4_bits_fail_and_of_8_bits_hold(folder_of, family, variant):
    crude, fine = (rounded(folder_of(family, variant), bits) for bits in (4, 8))
    assert not crude.holds
    assert crude.error_over_spread > 0.005
    assert fine.error_over_spread <= 0.01


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_as_drawn_a_network_hides_the_error(folder_of, family):
    """Which is why branches are scaled."""
    assert rounded(folder_of(family, "drawn"), 4).error_over_spread < 0.01


def test_error_over_spread():
    exact = np.eye(4, dtype=np.float32)
    assert error_over_spread(exact, exact) == 0
    assert error_over_spread(exact, 3 * exact) == pytest.approx(0)  # lengths do not count
    assert error_over_spread(exact, np.roll(exact, 1, axis=0)) == pytest.approx(1)
    # In a narrow cone the same cosine, here 1 - 0.0012, is a hundred times as much.
    aside = np.zeros((4, 6), np.float32)
    aside[:, :4], aside[:, 4] = exact, 10
    moved = aside + np.float32([0, 0, 0, 0, 0, 0.5])
    assert error_over_spread(aside, moved) == pytest.approx(0.125, rel=0.02)


def test_slopes_and_buckets_are_those_of_the_papers():
    assert alibi_slopes(8) == [2**-n for n in range(1, 9)]
    np.testing.assert_allclose(alibi_slopes(12), [*(2**-n for n in range(1, 9)), *(2 ** -(n + 0.5) for n in range(4))])
    assert buckets(torch.tensor([0, 1, 7, -7, 8, -8, 127, 500, -500])).tolist() == [0, 17, 23, 7, 24, 8, 31, 31, 15]


def test_a_folder_looks_like_those_of_the_hub(folder_of):
    for family in EMBEDDING:
        folder = folder_of(family)
        config = json.loads((folder / "config.json").read_text())
        assert config["model_type"] == FAMILIES[family].config["model_type"]
        assert {file.name for file in folder.iterdir()} == {
            "1_Pooling", "config.json", "model.safetensors", "modules.json", "tokenizer.json", "tokenizer_config.json",
        }  # fmt: skip
