"""Checks of every engine: its vectors are finite, and the weights are still those that the fingerprint names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nimbed.errors import BackendError

if TYPE_CHECKING:
    from nimbed._files.digests import Unchanged
    from nimbed._types import Float32Array, TokenBatch
    from nimbed.backends.protocol import Backend, Bulk, Session


class CheckedSession:
    """A session whose vectors are refused where they are not finite, or a file that it reads was written into.

    Args:
        session: of any engine.
        files: that it reads as long as it is open.
    """

    def __init__(self, session: Session, files: Unchanged) -> None:
        self.any_thread = session.any_thread
        self._session = session
        self._files = files

    def expect(self) -> None:
        """As the session's own."""
        self._session.expect()

    def run(self, batch: TokenBatch) -> Float32Array:
        """As the session's own.

        Raises:
            ArtefactError: a file was written into.
            BackendError: a vector is not finite.
        """
        self._files.check()  # a file that was cut would end the process
        vectors = self._session.run(batch)
        self._files.check()
        if not np.logical_and.reduce(np.isfinite(vectors), axis=None):  # .all() takes longer
            rows = np.flatnonzero(~np.isfinite(vectors).all(axis=-1))
            raise BackendError(
                f"the engine gave vectors that are not finite, for {len(rows)} of {len(batch)} texts: the weights are "
                "damaged (nimbed verify tells), or their numbers too large for this precision"
            )
        return vectors


def checked(backend: Backend, files: Unchanged) -> tuple[CheckedSession, Bulk]:
    """A backend's session for queries, and those for bulk."""
    bulk = backend.bulk()
    sessions = [CheckedSession(session, files) for session in bulk.sessions]
    return CheckedSession(backend.session(), files), replace(bulk, sessions=sessions)
