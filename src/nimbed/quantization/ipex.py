"""The IPEX side of the build: the extension's static int8 as TorchScript, measured as it will be opened."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from nimbed import _machine
from nimbed._loading.torchscript import remember
from nimbed.backends import engine_module, open_backend
from nimbed.backends.protocol import OpenRequest
from nimbed.backends.table import SCRIPT
from nimbed.quantization.build_result import Built, judged, measured_by
from nimbed.quantization.closeness import finite, in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nimbed._loading.build import BuildRequest
    from nimbed._loading.progress import Progress
    from nimbed._types import Float32Array, Int32Array, Precision
    from nimbed.quantization.calibration import CalibrationSet


def make(folder: Path, request: BuildRequest, calibration: CalibrationSet, progress: Progress) -> Built:
    """Quantize, measure against fp32 by IPEX, and keep the file's hash, by which it may be opened again."""
    engine = engine_module("ipex")
    source = Path(request.folder)
    for dense in request.spec.dense:
        (folder / dense.weights).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / dense.weights, folder / dense.weights)
    network = source / request.graph
    reference = _outputs(request, source, "fp32", network=network)(calibration.held_out)
    progress("quantizing")
    script = folder / SCRIPT
    engine.quantize(source, network, request.spec, calibration.calibrate, script)
    progress("measuring against fp32")
    outputs = _outputs(request, folder, "int8", code=script)
    measured = measured_by(request, reference, outputs(calibration.held_out))
    record = judged(request, measured)
    remember(script)
    return Built(outputs=outputs, calibration=calibration.record, quality=record, forced=bool(record["missed"]))


def _outputs(
    request: BuildRequest,
    folder: Path,
    precision: Precision,
    *,
    code: Path | None = None,
    network: Path | None = None,
) -> Callable[[Sequence[Int32Array]], Float32Array]:
    wanted = OpenRequest(
        folder=folder,
        spec=request.spec,
        precision=precision,
        threads=_machine.thread_plan().threads,
        code=code,
        network=network,
    )
    opened = open_backend("ipex", wanted)
    return lambda sequences: finite(in_batches(sequences, opened.session().run))
