"""What the package tokenizers raises, as an error of nimbed's own."""

from __future__ import annotations

from nimbed.errors import SpecError


class _Tokenizing:
    """Where the package tokenizers is called: its bare Exception and its panic come out as SpecError."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, traceback: object) -> None:
        own = kind in {Exception, OverflowError} or getattr(kind, "__module__", "") == "pyo3_runtime"
        if own:
            raise SpecError(f"tokenizer.json says something that cannot be used: {err}; fetch it again") from err


TOKENIZING = _Tokenizing()
