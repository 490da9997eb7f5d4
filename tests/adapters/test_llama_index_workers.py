from __future__ import annotations

import copy
import multiprocessing
import operator
import pickle

import pytest

from nimbed import _machine
from nimbed.llama_index import NimbedEmbedding


def fake(**options):
    return NimbedEmbedding("any-name", backend="fake", **options)


@pytest.mark.parametrize(
    ("options", "child", "threads"),
    [
        ({"num_workers": 2}, True, 4),
        ({"num_workers": 3}, True, 2),
        ({"num_workers": 20}, True, 1),
        ({"num_workers": 2}, False, 8),
        ({"num_workers": 1}, True, 8),
        ({}, True, 8),
        ({"num_workers": 2, "threads": 5}, True, 5),
    ],
)
def test_workers_share_the_threads(monkeypatch, options, child, threads):
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object() if child else None)
    monkeypatch.setattr(_machine, "_physical_cores", lambda _: 8)
    monkeypatch.setattr(_machine, "_cgroup_quota", lambda: None)
    embedding = fake(**options)
    info = embedding.encoder.info
    assert info.threads == threads
    assert ("one worker process of" in info.reasons["threads"]) == (threads in {1, 2, 4})
    assert embedding.threads == options.get("threads")
    assert copy.deepcopy(embedding).encoder.info == pickle.loads(pickle.dumps(embedding)).encoder.info == info


def test_a_worker_process_takes_its_share():
    embedding = fake(num_workers=2)
    alone = embedding.encoder.info
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        info = pool.apply(operator.attrgetter("encoder.info"), [embedding])
    assert info.threads == max(1, alone.threads // 2)
    assert f"one worker process of 2, which share {alone.threads}" in info.reasons["threads"]
    assert info.fingerprint == alone.fingerprint
    assert "worker" not in alone.reasons["threads"]
