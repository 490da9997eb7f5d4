"""What the build process runs: a request comes in as JSON; progress, the end and errors are reported."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nimbed._loading.child_process import Report


def main(payload: bytes, report: Report, began: float) -> int:  # noqa: ARG001 (the form of nimbed._loading.child_process)
    """Build one artefact."""
    # OpenVINO's and NNCF's telemetry, which forks, and writes into the home folder, is not there then.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    from nimbed._loading.build import BuildRequest, QualityGate
    from nimbed.errors import NimbedError
    from nimbed.spec import spec_from_dict

    try:
        values: dict[str, Any] = json.loads(payload)
        from nimbed.quantization.pipeline import STEPS, build

        settings = {"spec": spec_from_dict(values["spec"]), "gate": QualityGate(**values["gate"])}
        request = BuildRequest(**{**values, **settings})
        build(request, lambda step: report(kind="progress", step=step, steps=len(STEPS), stage=STEPS[step]))
    except NimbedError as err:
        report(kind="error", type=type(err).__name__, message=str(err))
        return 1
    report(kind="done")
    return 0
