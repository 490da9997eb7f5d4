"""What the build process runs: a request comes in as JSON; progress, the end and errors are reported."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nimbed._loading.child_process import Report
    from nimbed._loading.progress import Stage


def main(payload: bytes, report: Report, began: float) -> int:  # noqa: ARG001 (the form of nimbed._loading.child_process)
    """Build one artefact."""
    # OpenVINO's and NNCF's telemetry, which forks, and writes into the home folder, is not there then.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    from nimbed._loading.build import BuildRequest, QualityGate
    from nimbed.errors import NimbedError
    from nimbed.spec import spec_from_dict

    try:
        values: dict[str, Any] = json.loads(payload)
        from nimbed.quantization.pipeline import build

        settings = {"spec": spec_from_dict(values["spec"]), "gate": QualityGate(**values["gate"])}
        request = BuildRequest(**{**values, **settings})

        def progress(stage: Stage, done: int = 0, total: int = 0) -> None:
            report(kind="progress", stage=stage, done=done, total=total)

        build(request, progress)
    except NimbedError as err:
        report(kind="error", type=type(err).__name__, message=str(err))
        return 1
    report(kind="done")
    return 0
