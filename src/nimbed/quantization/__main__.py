"""The build process: a request as JSON on standard input, progress and errors as JSON lines on standard output."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


def main() -> int:
    """Build one artefact. Standard output is kept for the parent; what libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # A terminated build cleans up after itself like a failed one.
    signal.signal(signal.SIGTERM, _terminate)

    from nimbed._build import BuildRequest, QualityGate
    from nimbed.errors import NimbedError
    from nimbed.spec import spec_from_dict

    def say(**event: object) -> None:
        channel.write(json.dumps(event) + "\n")
        channel.flush()

    try:
        values: dict[str, Any] = json.loads(sys.stdin.read())
        from nimbed.quantization._pipeline import STEPS, build

        settings = {"spec": spec_from_dict(values["spec"]), "gate": QualityGate(**values["gate"])}
        request = BuildRequest(**{**values, **settings})
        build(request, lambda step: say(kind="progress", step=step, steps=len(STEPS), stage=STEPS[step]))
    except NimbedError as err:
        say(kind="error", type=type(err).__name__, message=str(err))
        return 1
    return 0


def _terminate(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the signal module's form)
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
