"""What a person needs to know when something is slow, missing or surprising."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import nimbed
from nimbed import _machine
from nimbed._loading.artefact import home
from nimbed._loading.auto import choose_backend, choose_precision, native_missing
from nimbed._loading.candidate import find
from nimbed._model_folder.task_adapters import task_of
from nimbed._versions import version_of
from nimbed.backends import BACKENDS, BackendRecord
from nimbed.errors import ArtefactError

if TYPE_CHECKING:
    from nimbed._loading.settings import Settings

# extra -> the packages that it brings
_EXTRAS = {
    "openvino": ("openvino",),
    "quantize": ("openvino", "nncf", "safetensors"),
    "export": ("openvino", "nncf", "optimum-intel", "torch", "transformers"),
    "torch": ("torch", "transformers"),
    "langchain": ("langchain-core",),
    "llama-index": ("llama-index-core",),
    "haystack": ("haystack-ai",),
    "ipex": ("intel-extension-for-pytorch", "optimum-intel"),
    "redis": ("redis",),
    "prometheus": ("prometheus-client",),
    "otel": ("opentelemetry-api",),
    "parquet": ("pyarrow",),
    "lance": ("pylance",),
    "ray": ("ray",),
    "plot": ("matplotlib",),
    "mteb": ("mteb",),
    "serve": ("httptools", "orjson", "prometheus-client", "uvicorn"),
}


def diagnosis() -> dict[str, str]:
    """This machine, what is installed, and what ``auto`` would choose, by name."""
    cpu, plan = _machine.cpu(), _machine.thread_plan()
    backend, backend_reason = choose_backend()
    precision, reason = choose_precision("auto", BACKENDS[backend])
    python = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    return {
        "nimbed": f"{nimbed.__version__}, {python}",
        "cpu": f"{cpu.model} ({cpu.architecture})",
        "instructions": " ".join(cpu.features) or "not detected on this system",
        "threads": f"{plan.threads}: {plan.reason}",
        "engines": ", ".join(f"{name} ({_state(record)})" for name, record in BACKENDS.items()),
        **{name: record.notice for name, record in BACKENDS.items() if record.notice},
        "extras": ", ".join(f"{extra} ({_extra_state(extra)})" for extra in _EXTRAS),
        "artefacts": _place(),
        "auto backend": f"{backend}: {backend_reason}",
        "auto precision": f"{precision}: {reason}",
    }


def diagnosis_of_model(settings: Settings) -> dict[str, str]:
    """What a model's settings files say of its vectors, by name, with the reasons; nothing is built or opened.

    Raises:
        NimbedError: it is not there, or cannot be honoured.
    """
    found = find(settings)
    spec = found.spec
    if spec.task == "scoring":
        return {"model": found.source.name, "kind": "cross-encoder", "longest text": f"{spec.max_length} tokens"}
    said = {
        "pooling": spec.pooling,
        "normalize": str(spec.normalize),
        "task": task_of(spec.adapters) or spec.prompt_task or "none",
        "prompt query": repr(spec.prompt("query")),
        "prompt document": repr(spec.prompt("document")),
    }
    reasons = {name: f" ({spec.origins[name]})" for name in said if name in spec.origins}
    return {"model": found.source.name, **{name: value + reasons.get(name, "") for name, value in said.items()}}


def _place() -> str:
    try:
        return f"{home() / 'artefacts'} (NIMBED_HOME moves it)"
    except ArtefactError as err:
        return str(err)


def _state(record: BackendRecord) -> str:
    if record.package is not None:
        return version_of(record.package) or "not installed"
    return (native_missing() if record.compiled else None) or "built in"


def _extra_state(extra: str) -> str:
    missing = [package for package in _EXTRAS[extra] if version_of(package) is None]
    return f'pip install "nimbed[{extra}]"' if missing else "installed"
