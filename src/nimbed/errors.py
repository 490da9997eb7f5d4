"""Every exception that nimbed raises on purpose.

Each class is also the built-in that people catch for that kind of fault::

    NimbedError
    ├── InputError (ValueError)            a setting or a text that cannot be used
    │   └── TruncationError                a text is longer than max_length and truncate="error"
    ├── InputTypeError (TypeError)         not a string where a string is expected
    ├── SpecError (ValueError)             a model folder says something that cannot be honoured
    ├── ModelNotFoundError (FileNotFoundError)
    ├── DownloadError (OSError)            the hub could not be reached, or refused
    ├── ArtefactError (OSError)            damaged, foreign or incomplete, or cannot be stored
    ├── BuildError (RuntimeError)          building an artefact failed
    │   └── QualityError                   int8 is too far from fp32; nothing was published
    ├── MissingExtraError (ImportError)    an optional package is needed; the message has the command
    ├── BackendError (RuntimeError)        an engine failed
    │   └── OutOfMemoryError (MemoryError) an engine could not allocate
    ├── ClosedError (RuntimeError)         the encoder was closed
    ├── EncodeTimeoutError (TimeoutError)  the vectors did not come within timeout_s
    └── FingerprintError (ValueError)      an index holds vectors of another fingerprint
"""

from __future__ import annotations

__all__ = [
    "ArtefactError",
    "BackendError",
    "BuildError",
    "ClosedError",
    "DownloadError",
    "EncodeTimeoutError",
    "FingerprintError",
    "InputError",
    "InputTypeError",
    "MissingExtraError",
    "ModelNotFoundError",
    "NimbedError",
    "OutOfMemoryError",
    "QualityError",
    "SpecError",
    "TruncationError",
]


class NimbedError(Exception):
    """Base of all errors raised by nimbed."""


class InputError(NimbedError, ValueError):
    """A setting or a text cannot be used; the message names it and says what to do."""


class TruncationError(InputError):
    """A text has more tokens than ``max_length``, and ``truncate="error"``.

    Attributes:
        items: the indexes of such texts, of all that were looked at together.
    """

    items: tuple[int, ...] = ()


class InputTypeError(NimbedError, TypeError):
    """Something is not of the type that is expected, such as a string or a list of strings."""


class SpecError(NimbedError, ValueError):
    """A model folder says something that nimbed cannot honour; the message names the file and the key."""


class ModelNotFoundError(NimbedError, FileNotFoundError):
    """There is no such model folder, artefact or hub repository."""


class DownloadError(NimbedError, OSError):
    """A download failed: it was retried if that could help, or the hub refused."""


class ArtefactError(NimbedError, OSError):
    """An artefact is damaged, foreign or incomplete, or cannot be stored where it should be."""


class BuildError(NimbedError, RuntimeError):
    """Building an artefact failed; nothing was published."""


class QualityError(BuildError):
    """int8 outputs are too far from the fp32 ones; the message has figures and remedies."""


class MissingExtraError(NimbedError, ImportError):
    """An optional package is needed; the message has the command that installs it."""


class BackendError(NimbedError, RuntimeError):
    """An engine could not open an artefact or run a batch."""


class OutOfMemoryError(BackendError, MemoryError):
    """An engine could not allocate memory for a batch."""


class ClosedError(NimbedError, RuntimeError):
    """The encoder was closed before or while the call ran."""


class EncodeTimeoutError(NimbedError, TimeoutError):
    """The vectors did not come within ``timeout_s``; texts that had not started were removed from the queue."""


class FingerprintError(NimbedError, ValueError):
    """An index holds vectors that may not be compared with those of this encoder; the message says what differs."""
