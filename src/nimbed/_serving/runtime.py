"""What an open encoder holds: the engine, the cache, admission limits, tokenizing threads and the scheduler."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from nimbed._cache.lru import Keys, VectorCache, Vectors, rows_of
from nimbed._cache.store_urls import check_url, without_credentials
from nimbed._cache.stores import open_store
from nimbed._serving.admission_limit import AdmissionLimit
from nimbed._serving.checked_session import checked
from nimbed._serving.postprocess import Postprocess
from nimbed._serving.reentry import within_a_call
from nimbed._serving.scheduler import Scheduler
from nimbed._serving.worker_thread import WorkerThread, wait_until
from nimbed._text.pair_tokenizer import PairTokenizer
from nimbed.errors import ClosedError

if TYPE_CHECKING:
    import weakref
    from collections.abc import Sequence

    from nimbed._cache.lru import Tier
    from nimbed._loading.engine import Engine
    from nimbed._loading.settings import CacheConfig
    from nimbed._text.tokenizer import TokenizedTexts
    from nimbed._types import BatchRecord, PromptedText, Role

logger = logging.getLogger("nimbed")

# The admission limits, in characters of text.
_MAX_CHARACTERS: dict[Role, int] = {"query": 1_000_000, "document": 4_000_000}
# Shapes up to this length in tokens are warmed up: few queries are longer, and long shapes delay the first ones.
_MAX_WARM_TOKENS = 128
# How long closing waits for callers.
_CLOSE_S = 10.0


class Runtime:
    """An open engine, ready for the texts of many callers.

    Args:
        engine: owned.
        cache: its configuration, or None.
        on_batch: called after each batch, as long as its object lives.
    """

    def __init__(self, engine: Engine, cache: CacheConfig | None, on_batch: weakref.WeakMethod[Any]) -> None:
        self.engine = engine
        self._process = os.getpid()
        self._closed = False
        self.cache = None if cache is None else VectorCache(cache.size_bytes, _tier(cache, engine.spec.dim))
        self.admission: dict[Role, AdmissionLimit] = {
            role: AdmissionLimit(limit) for role, limit in _MAX_CHARACTERS.items()
        }
        # Two threads: a query must not wait until a block of documents is tokenized.
        self.tokenizing_threads: dict[Role, WorkerThread] = {
            role: WorkerThread(f"nimbed-tokenize-{role}") for role in _MAX_CHARACTERS
        }
        self._keys: dict[Role, Keys] = {
            role: Keys(engine.vector_fingerprint + engine.spec.adapter(role), engine.spec.prompt(role))
            for role in _MAX_CHARACTERS
        }
        self.postprocess = Postprocess.of(engine)

        def report(record: BatchRecord) -> None:
            if (alive := on_batch()) is not None:
                alive(record)

        backend, shapes = engine.backend, engine.backend.shapes
        session, bulk = checked(backend, engine.files)
        self.scheduler = Scheduler(session, shapes, bulk, engine.spec.dim, on_batch=report)

    def start(self) -> None:
        """Start the threads; where that fails, the runtime has to be closed."""
        self.scheduler.start()
        # Most queries are a batch of one row: their likely lengths are compiled while nothing else waits.
        shapes = self.engine.backend.shapes
        lengths = [n for n in shapes.lengths if shapes.least_alone <= n <= _MAX_WARM_TOKENS]
        self.scheduler.warm_up([np.zeros(n, np.int32) for n in lengths])

    def keys(self, role: Role) -> Keys:
        """Makes the cache's keys of texts in this role."""
        return self._keys[role]

    @property
    def has_tier(self) -> bool:
        """Whether looking a text up may wait for a store."""
        return self.cache is not None and self.cache.tier is not None

    def cached(self, texts: Sequence[str | PromptedText], role: Role) -> Vectors | None:
        """The vectors ``[n, dim]`` where the process's cache has all of them."""
        if self.cache is None or not texts:
            return None
        keys = self._keys[role]
        if (known := keys(texts[:1]))[0] not in self.cache:  # most often none is there
            return None
        if (entries := self.cache.peek(known + keys(texts[1:]) if len(texts) > 1 else known)) is None:
            return None
        cut = np.array([entry.cut for entry in entries], np.int32)
        return self.for_caller(Vectors(rows_of(entries, self.engine.spec.dim), cut), first=0, shared=False)

    def tokenize(self, texts: Sequence[Any], role: Role, items: Sequence[int]) -> TokenizedTexts:
        """Token ids of strings, with the role's prompt, or of pairs; ``items`` are their numbers in messages."""
        tokenizer = self.engine.tokenizer
        if isinstance(tokenizer, PairTokenizer):
            return tokenizer(texts, items=items)
        return tokenizer(texts, self.engine.spec.prompt(role), items=items)

    def compute_unqueued(self, tokens: TokenizedTexts, role: Role) -> Vectors:
        """Full vectors, computed on this thread in a session of its own, for a caller that must not wait."""
        self.refuse_closed()
        raw = self.scheduler.runner.run_unqueued(tokens.sequences, role, self.engine.backend.session())
        return self.postprocess.full(raw, tokens)

    def for_caller(self, vectors: Vectors, *, first: int, shared: bool) -> Vectors:
        """What a caller gets of full vectors.

        Args:
            vectors: as :meth:`Postprocess.full` makes them.
            first: number of the first text, for messages.
            shared: whether others may still read them.

        Raises:
            TruncationError: a text lost tokens and the policy is "error".
        """
        self.engine.tokenizer.refuse_cut(vectors.cut, range(first, first + len(vectors.cut)))
        return self.postprocess.for_caller(vectors, shared=shared)

    def refuse_closed(self) -> None:
        """Raise ClosedError where it is closed."""
        if self._closed:
            raise ClosedError("this encoder was closed before the call was done")

    def close(self) -> None:
        """Fail what waits, write what the tier has not written, release the engine."""
        if self._closed or os.getpid() != self._process:
            return  # in a fork, threads and engine are the parent's
        self._closed = True
        for limit in self.admission.values():
            limit.close(ClosedError("this encoder was closed before the call was done"))
        for thread in self.tokenizing_threads.values():
            thread.stop()
        self.scheduler.stop()
        if not within_a_call():
            self._finish()
            return
        try:  # not a daemon: the interpreter does not end before it
            threading.Thread(target=self._finish, name="nimbed-close", daemon=False).start()
        except RuntimeError:
            logger.warning("no thread could be started to wait for the encoder's end", exc_info=True)

    def _finish(self) -> None:
        """Wait for what runs: a thread in the engine or the tokenizer must not outlive the interpreter."""
        for thread in self.tokenizing_threads.values():
            thread.join()
        self.scheduler.join()
        wait_until(lambda: all(limit.empty for limit in self.admission.values()), _CLOSE_S)  # callers that tokenize
        if self.cache is not None:
            self.cache.close()
        self.engine.backend.close()


def _tier(config: CacheConfig, dim: int) -> Tier | None:
    url = config.url
    if url is None:
        return None
    from nimbed._cache.shared_tier import GuardedTier, OffTier  # with tenacity and asyncio, which take long to import
    from nimbed._cache.stored_values import Seal

    name, secret = without_credentials(url), config.secret()
    if config.signed and secret is None:
        return OffTier(name, "its key is not written out; set NIMBED_CACHE_KEY")
    if config.credentials_dropped:
        # This process got the configuration in a pickle.
        url = os.environ.get("NIMBED_REDIS_URL")
        if not url:
            return OffTier(name, "credentials are not pickled; set NIMBED_REDIS_URL for child processes")
        check_url(url, source="NIMBED_REDIS_URL")
        name = without_credentials(url)
    store = open_store(url, timeout_s=config.timeout_s, ttl_s=config.ttl_s)
    return GuardedTier(store, name=name, seal=Seal(dim, secret), timeout_s=config.timeout_s)
