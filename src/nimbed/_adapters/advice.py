"""Error messages in the words of the interface that the user called.

nimbed's errors name the arguments of ``Encoder`` and ``quantize``. An adapter's options are flat, and the command has
flags: their messages are rewritten, so that a remedy can be typed as it stands.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nimbed.errors import NimbedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Replacements by regular expression, applied in order.
Words = dict[str, str]

# Of rerankers alone.
INSTRUCTED: Words = {r'(spec=)?SpecOverrides\(prompts=\{"instruction": ([^{}]*)\}\)': r"instruction=\2"}
# The adapters' options are flat.
FLAT: Words = {
    **INSTRUCTED,
    r"(spec=)?SpecOverrides\((\w+=[^()]*)\)": r"\2",
    r"(source=)?Source\(file=([^()]*)\)": r"file_name=\2",
    r"(source=)?Source\((\w+=[^()]*)\)": r"\2",
    r"use encode\(texts, role='query'\)": "give them one by one",
    r"for an iterator, use Encoder\.encode_iter": "make a list of it",
}
# Haystack's files must not permit code.
HAYSTACK: Words = {
    r"If you trust whoever made it, allow it with source=Source\(allow_code=True\); otherwise build": "Build",
    **FLAT,
}
_COMMAND: Words = {
    next(iter(INSTRUCTED)): "an instruction (in Python)",
    r"(spec=)?SpecOverrides\((pooling|task)=([^()]*)\)": r"nimbed quantize MODEL --\2 \3",
    r"(source=)?Source\(file=([^()]*)\)": r"--file \2",
    r"(source=)?Source\(allow_code=True\)": "--allow-code",
    r"(source=)?Source\(local_files_only=True\)": "--offline",
    r"begin='(restart|update)'": r"--\1",
    r"(source=)?Source\(cache_folder=[^()]*\), or ": "",
}


def of_command(options: Mapping[str, object]) -> Words:
    """Replacements for a subcommand of ``nimbed`` with these options."""
    names = [name for name in sorted(options) if name not in {"model", "run", "settings"}]
    # What stands behind an @ or a comma is a setting, MODEL@name=value,...: the command's own words.
    flags = {rf"(?<![@,\w]){name}=[\"']?([\w.]+)[\"']?": rf"--{name.replace('_', '-')} \1" for name in names}
    own = {r"(spec=)?SpecOverrides\(task=([^()]*)\)": r"--task \2"} if "task" in options else {}
    return {**own, **_COMMAND, **flags}


@contextmanager
def advising_in(words: Words) -> Iterator[None]:
    """Rewrite the messages of nimbed's errors with these replacements."""
    try:
        yield
    except NimbedError as err:
        err.args = tuple(_rewritten(part, words) if isinstance(part, str) else part for part in err.args)
        raise


def _rewritten(message: str, words: Words) -> str:
    for pattern, word in words.items():
        message = re.sub(pattern, word, message)
    return message
