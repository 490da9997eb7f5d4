"""An artefact in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nimbed._loading.artefact import Artefact, Manifest

_MEASURES = {
    "mean_cosine": "mean cosine",
    "min_cosine": "worst cosine",
    "top10_agreement": "top-10 agreement",
    "rank_correlation": "rank correlation",
    "kendall_tau": "Kendall's tau",
}


def describe(artefact: Artefact) -> str:
    """Several lines: place, size, origin, quality against its thresholds, second passes, rotation, repair."""
    manifest = artefact.manifest
    size = sum(record.bytes for record in manifest.files.values())
    lines = [f"{artefact.folder}", f"  {manifest.precision} for {manifest.engine}, {size / 1e6:.1f} MB"]
    lines.append(f"  from {manifest.source.id} ({manifest.source.file})")
    lines.append(
        f"  {manifest.spec.pooling} pooling, normalize={manifest.spec.normalize}, {manifest.spec.dim} dimensions"
    )
    return "\n".join([*lines, *_quality_lines(manifest), *_precision_lines(manifest), *_repair_lines(manifest)])


def _quality_lines(manifest: Manifest) -> list[str]:
    """The measures that the manifest has, each beside its threshold."""
    quality = manifest.quality
    if quality is None:
        return []
    lines = [f"  against fp32 on {quality['texts']} held-out texts:"]
    for name, least in quality["thresholds"].items():
        missed = ", MISSED" if name in quality["missed"] else ""
        lines.append(f"    {_MEASURES.get(name, name):<17} {quality[name]:.4f} (at least {least:g}{missed})")
    if manifest.forced:
        lines.append("  FORCED: it failed its quality gate; Encoder warns whenever it opens it")
    return lines


def _precision_lines(manifest: Manifest) -> list[str]:
    """Whether the residual stream is rotated; which products round their inputs twice, and what that costs."""
    second = manifest.second_pass
    lines = ["  residual stream rotated: 8 bits did not hold its outliers"] if manifest.rotated else []
    if second is None:
        return lines
    errors = f"error {second['error_before']:.2g}, now {second['error_after']:.2g}"
    return [
        *lines,
        f"  rounded twice ({second['multiplications']:.2f} times the multiplications; {errors}):",
        *(f"    {name}" for name in second["products"]),
    ]


def _repair_lines(manifest: Manifest) -> list[str]:
    """Which layers went back to fp32, and what that cost."""
    repair = manifest.repair
    if repair is None:
        return []
    before = ", ".join(
        f"{name} {repair['before'][key]:.4f}" for key, name in _MEASURES.items() if key in repair["before"]
    )
    ratio = repair["latency_ratio"]
    cost = repair["latency"] if ratio is None else f"{ratio:.2f} times as long as without ({repair['latency']})"
    return [
        f"  repaired, before: {before}",
        f"    accuracy control: {repair['accuracy_control']}",
        f"    time: {cost}",
        f"    back in fp32 ({len(repair['fp32_layers'])} operations):",
        *(f"      {name}" for name in repair["fp32_layers"]),
    ]
