"""What a person needs to know when something is slow, missing or surprising."""

from __future__ import annotations

import platform

import nimbed
from nimbed import _machine
from nimbed._loading.artefact import home
from nimbed._loading.auto import choose_backend, choose_precision, native_missing
from nimbed._versions import version_of
from nimbed.backends import BACKENDS, BackendRecord
from nimbed.errors import ArtefactError

# extra -> the packages that it brings
_EXTRAS = {
    "quantize": ("nncf", "safetensors"),
    "export": ("nncf", "optimum-intel", "torch", "transformers"),
    "torch": ("torch", "transformers"),
    "langchain": ("langchain-core",),
    "llama-index": ("llama-index-core",),
    "haystack": ("haystack-ai",),
    "ipex": ("intel-extension-for-pytorch", "optimum-intel"),
    "redis": ("redis",),
    "prometheus": ("prometheus-client",),
    "otel": ("opentelemetry-api",),
    "parquet": ("pyarrow",),
    "plot": ("matplotlib",),
    "mteb": ("mteb",),
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
