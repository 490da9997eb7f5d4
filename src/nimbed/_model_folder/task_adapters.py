"""Adapters for tasks, of which a model has several beside one network: in its weights, or in files of their own.

``lora_adaptations`` of ``config.json`` names those of jina-embeddings-v3, ``task_names`` those of jina-embeddings-v5.
``retrieval.query`` and ``retrieval.passage`` are one task of two roles; each of the others is a task by itself, for
both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from nimbed.errors import InputError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nimbed._files.json import Fields

DEFAULT = "retrieval"
# The model_type of networks whose adapters lie in files of their own.
IN_FILES = "jina_embeddings_v5"
_LISTED, _LISTED_IN_FILES = "lora_adaptations", "task_names"
_ROLES = {"query": "query", "passage": "document", "document": "document"}
_FOR_A_ROLE = re.compile(r"(.+)[.-](query|passage|document)", re.DOTALL)


def adapters_of(config: Fields) -> tuple[str, ...]:
    """Their names; empty where there are none.

    Raises:
        SpecError: they are no names, or one is there twice.
    """
    listed = config.get(key := _key(config))
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(name, str) and name for name in listed):
        raise config.wrong(key, "a list of names")
    if len(set(listed)) < len(listed):
        raise config.wrong(key, "a list of names of which each is there once")
    return tuple(listed)


def are_in_files(config: Mapping[str, Any]) -> bool:
    """Whether the network's adapters lie in files of their own."""
    return config.get("model_type") == IN_FILES


def _key(config: Mapping[str, Any]) -> str:
    return _LISTED_IN_FILES if are_in_files(config) else _LISTED


def chosen_adapters(config: Fields, task: str | None) -> dict[str, str]:
    """The adapter by role ("query", "document"); empty for a model that has none.

    Args:
        config: of the network.
        task: the user's choice; None is retrieval.

    Raises:
        InputError: it has adapters, and none for this task.
        SpecError: it has adapters, and none for retrieval.
    """
    if not (tasks := _tasks(adapters_of(config))):
        return {}
    if task is not None and task not in tasks:
        known = f"the model knows {', '.join(tasks)}"
        raise InputError(f"SpecOverrides(task={task!r}): there is no adapter for this task; {known}")
    if task is None and DEFAULT not in tasks:
        raise SpecError(
            f"{config.where}: {_key(config)}: none is for {DEFAULT}; say which is meant: "
            f"spec=SpecOverrides(task=...) with one of {', '.join(tasks)}"
        )
    return tasks.get(task or DEFAULT, {})


def task_of(adapters: Mapping[str, str]) -> str | None:
    """The task that these adapters by role are for."""
    return next((task_and_role(name)[0] for name in adapters.values()), None)


def task_and_role(name: str) -> tuple[str, str | None]:
    """The task, and the role where the name of an adapter or a prompt says one: ``retrieval.passage``, ``X-query``."""
    found = _FOR_A_ROLE.fullmatch(name)
    return (name, None) if found is None else (found[1], _ROLES[found[2]])


def _tasks(names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name in names:
        task, role = task_and_role(name)
        roles = ("query", "document") if role is None else (role,)
        found.setdefault(task, {}).update(dict.fromkeys(roles, name))
    return {task: adapters for task, adapters in found.items() if len(adapters) == len(set(_ROLES.values()))}
