"""Tasks that a model is told in its prompts: in words of the user's, or by a prompt of the task's name.

Words stand in a query's prompt between ``Instruct: `` and a line that begins with ``Query:`` (Qwen3-Embedding, Harrier,
E5's instruct models; with a space behind the colon or without one, as the model has it).

Names are those of prompts which are for no role in particular, as EmbeddingGemma has them: ``Clustering`` is for both
roles; ``Retrieval-query`` and ``Retrieval-document`` are one task. Where a task is a search, or its prompt has words as
above, it is the query's alone, and documents keep their own.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from nimbed._model_folder.prompts import DOCUMENT_NAMES
from nimbed._model_folder.task_adapters import task_and_role
from nimbed.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nimbed._types import ModelSpec

# Where a prompt comes from that a task decides.
_TOLD = "that of the task"
_INSTRUCTED = re.compile(r"(Instruct: )(.+)(\nQuery: ?)", re.DOTALL)
# mteb's types of tasks that have queries and documents; sentence-transformers' prompts have their names from there.
_DEFAULT = "Retrieval"
_SEARCHES = frozenset({_DEFAULT, "Reranking", "InstructionRetrieval", "InstructionReranking"})


def instruction_of(prompt: str) -> str:
    """The words for a task in a query's prompt, or an empty string."""
    found = _INSTRUCTED.fullmatch(prompt)
    return "" if found is None else found[2]


def with_task(
    spec: ModelSpec, task: str | None, family_tasks: Mapping[str, str], given: Collection[str] = ()
) -> ModelSpec:
    """The spec with the prompts of a task.

    Args:
        spec: of a model without adapters for tasks.
        task: words, or a name; None keeps the model's own prompts.
        family_tasks: prompts by the names of tasks, for those that the model's folder leaves out.
        given: roles whose prompts the user gives, so that the task's are not used.

    Raises:
        InputError: the model has no such task, or nothing would be left of it.
    """
    named = _named({**family_tasks, **spec.prompts})
    if task is None:
        return spec if spec.prompt_task else _with_default(spec, named)
    found = named.get(task) or _instructed(spec, task, list(named))
    if set(found) <= set(given):
        raise InputError(f"SpecOverrides(task={task!r}): the prompts that are given leave nothing of it; drop one")
    if "document" not in found and spec.origins.get("prompt document") == _TOLD:
        raise InputError(
            f"SpecOverrides(task={task!r}): this artefact was built for {spec.prompt_task!r}, which changed the "
            "documents' prompt too; build another one"
        )
    origins = {f"prompt {role}": _TOLD for role in found}
    return replace(
        spec,
        prompts={**spec.prompts, **found},
        prompt_task=instruction_of(found.get("query", "")) or task,
        origins={**spec.origins, **origins, "task": "set by the user"},
    )


def _named(prompts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Prompts by role, for each task that has a name."""
    found: dict[str, dict[str, str]] = {}
    parts = {name: task_and_role(name) for name in prompts if name not in {"query", *DOCUMENT_NAMES}}
    for name, (task, role) in sorted(parts.items(), key=lambda part: part[1][1] is not None):
        text = prompts[name]
        both = role is None and task not in _SEARCHES and not instruction_of(text)
        roles = ("query", "document") if both else (role or "query",)
        found.setdefault(task, {}).update(dict.fromkeys(roles, text))
    return dict(sorted(found.items()))


def _with_default(spec: ModelSpec, named: Mapping[str, Mapping[str, str]]) -> ModelSpec:
    """What is told where nobody chose."""
    roles = named.get(_DEFAULT, {})
    is_search = bool(roles) and all(spec.prompts.get(role) == text for role, text in roles.items())
    if not (task := instruction_of(spec.prompts.get("query", "")) or (_DEFAULT if is_search else "")):
        return spec
    origin = spec.origins.get("prompt query", "the model's own prompt")
    return replace(spec, prompt_task=task, origins={**spec.origins, "task": origin})


def _instructed(spec: ModelSpec, task: str, names: list[str]) -> dict[str, str]:
    """The query's prompt with the task's words."""
    said, known = f"SpecOverrides(task={task!r})", f"the model knows {', '.join(names)}" if names else ""
    if (template := _INSTRUCTED.fullmatch(spec.prompts.get("query", ""))) is None:
        reason = known or (
            "the model has no adapters for tasks, no prompts by the names of tasks and no instruction in its query's "
            "prompt; leave it out, or give the prompts"
        )
        raise InputError(f"{said}: there is no prompt for this task; {reason}")
    if re.fullmatch(r"[\w.:-]+", task, re.ASCII):  # a name, perhaps another model's
        raise InputError(
            f"{said}: {known or 'the model knows no tasks by name'}; an instruction is a sentence, such as "
            f"{template[2]!r}"
        )
    if not _is_line(task):
        raise InputError(f"{said}: an instruction is one line of text")
    return {"query": template[1] + task + template[3]}


def _is_line(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return bool(text.strip()) and text.splitlines() == [text]
