"""What is PyTorch's own, beside the contract: refusals, and whose errors come out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nimbed import _machine
from nimbed._machine import Cpu
from nimbed._types import TokenBatch
from nimbed.backends import open_backend
from nimbed.backends.protocol import OpenRequest
from nimbed.backends.torch import TorchSession
from nimbed.errors import BackendError, InputError, OutOfMemoryError
from nimbed.spec import read_spec

BATCH = TokenBatch.from_sequences([np.array([101, 7, 102], np.int32), np.array([101, 102], np.int32)])


def opened(folder, precision="fp32", **changes):
    request = OpenRequest(folder=folder, spec=read_spec(folder), precision=precision, threads=1, **changes)
    return open_backend("torch", request)


def test_int8_is_another_engines(tiny_folder):
    with pytest.raises(InputError, match="precision='int8': backend=\"torch\" has fp32 and bf16"):
        opened(tiny_folder, "int8")


def test_bf16_without_instructions_for_it(tiny_folder, monkeypatch):
    monkeypatch.setattr(_machine, "cpu", lambda: Cpu(model="m", architecture="x86_64", features=("avx2",)))
    with pytest.raises(InputError, match='this CPU has no bf16 instructions; use "fp32"'):
        opened(tiny_folder, "bf16")


def test_another_file_may_hold_the_weights(tiny_folder, tmp_path):
    (tmp_path / "other.safetensors").write_bytes((tiny_folder / "model.safetensors").read_bytes())
    vectors = opened(tiny_folder, network=tmp_path / "other.safetensors").session().run(BATCH)
    np.testing.assert_array_equal(vectors, opened(tiny_folder).session().run(BATCH))


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemoryError),
        (RuntimeError("shapes cannot be multiplied"), BackendError),
        (IndexError("index out of range in self"), BackendError),
    ],
)
def test_its_errors_come_out_as_nimbeds(raised, error):
    def network(**inputs):
        raise raised

    session = TorchSession(network, ["input_ids", "attention_mask"], head=None)
    with pytest.raises(error, match=f"PyTorch failed on 2 texts: {raised.args[0]}") as caught:
        session.run(BATCH)
    assert type(caught.value) is error
    assert caught.value.__cause__ is raised


def test_a_token_without_a_row_is_an_error(tiny_folder):
    batch = TokenBatch.from_sequences([np.array([10**6], np.int32)])
    with pytest.raises(BackendError, match="PyTorch failed on 1 texts"):
        opened(tiny_folder).session().run(batch)


def test_vectors_need_no_gradients(tiny_folder):
    assert not torch.is_inference_mode_enabled()
    vectors = opened(tiny_folder).session().run(BATCH)
    vectors[:] = 0  # the caller's own
    assert not torch.is_inference_mode_enabled()
