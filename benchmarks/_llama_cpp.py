"""llama.cpp through llama-cpp-python's own functions, run in the peers' environment: token ids in, vectors out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llama_cpp as api
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

MICRO_BATCH = 512  # tokens, the default of llama.cpp's server
SEQUENCES = 64  # at most in one


@api.llama_log_callback
def _silent(*_: object) -> None:
    """What it writes while it loads is of no use here."""


class LlamaCpp:
    """A context for embedding; texts are packed up to the micro-batch, sorted by length."""

    def __init__(self, file: Path, threads: int) -> None:
        api.llama_log_set(_silent, None)
        model = api.llama_model_load_from_file(str(file).encode(), api.llama_model_default_params())
        if not model:
            raise OSError(f"llama.cpp does not open {file}")
        self._width = api.llama_model_n_embd(model)
        self._context = api.llama_init_from_model(model, _parameters(threads))
        self._memory = api.llama_get_memory(self._context)  # a decoder's keys and values
        self._batch = api.llama_batch_init(MICRO_BATCH, 0, 1)

    def embed(self, ids: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """``[B, H]`` with L2 norm 1, of token ids of at most `MICRO_BATCH`."""
        vectors = np.empty((len(ids), self._width), np.float32)
        for places in _packed(ids):
            self._run([ids[at] for at in places])
            for sequence, at in enumerate(places):
                vectors[at] = np.ctypeslib.as_array(
                    api.llama_get_embeddings_seq(self._context, sequence), (self._width,)
                )
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _run(self, texts: Sequence[Sequence[int]]) -> None:
        batch, at = self._batch, 0
        for sequence, text in enumerate(texts):
            for position, token in enumerate(text):
                batch.token[at], batch.pos[at] = token, position
                batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, sequence, 1
                at += 1
        batch.n_tokens = at
        if self._memory:
            api.llama_memory_clear(self._memory, False)
        run = api.llama_decode if self._memory else api.llama_encode
        if code := run(self._context, batch):
            raise RuntimeError(f"llama.cpp answers {code} to {at} tokens")


def _parameters(threads: int) -> api.llama_context_params:
    made = api.llama_context_default_params()
    made.n_ctx = made.n_batch = made.n_ubatch = MICRO_BATCH
    made.n_seq_max = SEQUENCES
    made.n_threads = made.n_threads_batch = threads
    made.embeddings = made.kv_unified = True
    return made


def _packed(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of texts that go together."""
    some: list[int] = []
    tokens = 0
    for at in sorted(range(len(ids)), key=lambda at: -len(ids[at])):
        if some and (tokens + len(ids[at]) > MICRO_BATCH or len(some) == SEQUENCES):
            yield some
            some, tokens = [], 0
        some.append(at)
        tokens += len(ids[at])
    if some:
        yield some
