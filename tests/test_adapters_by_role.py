"""Adapters for tasks, end to end: a query's texts go through the query's network, whichever way they take."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nimbed import Calibration, Encoder, SpecOverrides
from nimbed._model_folder.safetensors import read_tensors
from nimbed.quantization import QualityGate
from tests.support.building import build_here
from tests.support.described import cosine, written
from tests.support.networks import real_texts, token_ids
from tests.support.oracles import oracle_vectors

pytestmark = pytest.mark.usefixtures("native", "one_torch_thread")
# Both roles read the same tokens: what tells them apart is the network alone.
PLAIN = {"query": "", "document": ""}
TEXTS = real_texts(24)
NEAR = {"fp32": 0.999999, "int8": 0.99}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return written("jina-v3-remote", tmp_path_factory.mktemp("model") / "jina", variant="plain")


@pytest.fixture(scope="module")
def oracle(folder):
    ids = token_ids(folder, TEXTS, longest=64)
    return {task: oracle_vectors(folder, ids, task=task) for task in ("retrieval.query", "retrieval.passage")}


@pytest.fixture(scope="module")
def artefact(folder):
    calibration = Calibration(texts=real_texts(120), count=40)
    gate = QualityGate(min_cosine=0.98)
    return build_here(folder, folder.parent / "int8", backend="native", calibration=calibration, gate=gate)


@pytest.fixture(scope="module", params=["fp32", "int8", "fp32 cached"])
def encoder(request, folder, artefact):
    precision, cached = request.param[:4], "cached" in request.param
    with Encoder(
        folder if precision == "fp32" else artefact,
        backend="native",
        precision=precision,
        truncate="silent",
        spec=SpecOverrides(prompts=PLAIN),
        **({} if cached else {"cache": None}),
    ) as opened:
        yield opened


def test_each_role_has_its_own_network(encoder, oracle):
    near = NEAR[encoder.info.precision]
    wanted = {"query": oracle["retrieval.query"], "document": oracle["retrieval.passage"]}
    for role in ("query", "document", "query"):  # the cache has the other role's vectors of the same texts
        other = wanted["document" if role == "query" else "query"]
        for vectors in (
            encoder.encode(TEXTS, role=role),
            np.concatenate([encoder.encode([text], role=role) for text in TEXTS]),
            np.concatenate(list(encoder.encode_iter(iter(TEXTS), role=role))),
            asyncio.run(encoder.aencode(TEXTS, role=role)),
        ):
            assert cosine(vectors, wanted[role]) > near
            assert cosine(vectors, other) < 0.98
    assert cosine(encoder.encode_query(TEXTS[0]), wanted["query"][:1]) > near


def test_callers_at_one_time_get_their_own_roles_vectors(encoder):
    alone = {role: encoder.encode(TEXTS, role=role) for role in ("query", "document")}
    roles = ["query", "document"] * 12

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda at: encoder.encode([TEXTS[at]] * 2 + TEXTS[:at], role=roles[at]), range(24)))
    for at, vectors in enumerate(found):
        own = alone[roles[at]]
        np.testing.assert_array_equal(vectors, np.concatenate([own[[at, at]], own[:at]]))


def test_what_both_networks_have_is_kept_once(artefact):
    arrays, metadata = read_tensors(artefact.folder / "encoder.safetensors")
    assert set(metadata) >= {"nimbed", "nimbed.query"}
    own = {name.removeprefix("query/") for name in arrays if name.startswith("query/")}
    assert "layers.0.projection.weights" in own
    assert "words" in own  # tables have adapters too
    assert not own & {"attention.0.rotation", "layers.0.output_norm.beta"}
    assert own <= arrays.keys()


@pytest.mark.parametrize("task", ["separation", "classification", "text-matching"])
def test_other_tasks_have_one_network_for_both_roles(task, folder):
    spec = SpecOverrides(task=task, prompts=PLAIN)
    with Encoder(folder, backend="native", precision="fp32", truncate="silent", spec=spec) as encoder:
        vectors = encoder.encode(TEXTS)
        np.testing.assert_array_equal(encoder.encode(TEXTS, role="query"), vectors)
    assert cosine(vectors, oracle_vectors(folder, token_ids(folder, TEXTS, longest=64), task=task)) > NEAR["fp32"]
