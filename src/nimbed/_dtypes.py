"""Smaller numbers for vector stores: float16, int8 with the artefact's ranges, and one bit a component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from nimbed.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from nimbed._types import Float32Array

__all__ = ["RANGES", "AnyArray", "Dtype", "Ranges", "check_dtype", "convert", "load_ranges", "save_ranges"]

Dtype = Literal["float32", "float16", "int8", "ubinary"]
Float16Array = npt.NDArray[np.float16]
Int8Array = npt.NDArray[np.int8]
UInt8Array = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]
# float32 [3, dim]: see save_ranges.
Ranges = npt.NDArray[np.float32]

RANGES = "ranges.npy"
_DTYPES: tuple[str, ...] = get_args(Dtype)


def save_ranges(folder: Path, vectors: Float32Array) -> None:
    """Keep what int8 vectors need in ``ranges.npy``, float32 ``[3, dim]``.

    Row 0 has each component's least value over the calibration texts, row 1 its greatest, and component ``i`` of row 2
    the least norm that the first ``i + 1`` components of a vector have, as a share of the whole vector's norm.

    Args:
        folder: of the artefact.
        vectors: float32 ``[n, dim]``, of the calibration texts.
    """
    norms = np.sqrt(np.cumsum(np.square(vectors, dtype=np.float64), axis=1))
    shares = norms / np.maximum(norms[:, -1:], 1e-12)
    table = np.stack([vectors.min(axis=0), vectors.max(axis=0), shares.min(axis=0)])
    np.save(folder / RANGES, table.astype(np.float32))


def load_ranges(folder: Path, dim: int) -> Ranges | None:
    """The artefact's ranges, or None where it has none.

    Raises:
        ArtefactError: the file holds something else.
    """
    path = folder / RANGES
    if not path.is_file():
        return None
    try:
        # Mapped, so that a header cannot ask for more than the file has.
        ranges = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as err:  # numpy hands a header to tokenize and ast, and lets through what they raise
        raise ArtefactError(f"{path} cannot be read: {err}; copy or build the artefact again") from err
    if ranges.dtype != np.float32 or ranges.shape != (3, dim) or not np.isfinite(ranges).all():
        raise ArtefactError(f"{path} holds no ranges of {dim} components; copy or build the artefact again")
    return np.array(ranges)


def ranges_of_cut(ranges: Ranges, dim: int, *, normalize: bool) -> Float32Array:
    """Ranges ``[2, dim]`` of vectors cut to ``dim`` components.

    Where a cut vector is normalized again, it is divided by the norm of what is left. The least such norm bounds all:
    no calibration text's cut vector lies beyond ``range / least norm``, nor any unit vector's beyond 1.
    """
    cut: Float32Array = ranges[:2, :dim]
    if not normalize or dim == ranges.shape[1]:
        return cut
    wide = np.clip(cut / np.maximum(ranges[2, dim - 1], np.float32(1e-6)), -1, 1)
    # A range that leaves out 0 moves towards 0 when it is divided by a greater norm.
    return np.stack([np.minimum(wide[0], cut[0]), np.maximum(wide[1], cut[1])])


def check_dtype(dtype: str, dim: int, ranges: Ranges | None) -> None:
    """Refuse what cannot be converted to, before anything is computed.

    Raises:
        InputError: the dtype is unknown, or the artefact or the width do not allow it.
    """
    if dtype not in _DTYPES:
        raise InputError(f"dtype={dtype!r} is not one of {', '.join(_DTYPES)}")
    if dtype == "ubinary" and dim % 8:
        raise InputError(
            f'dtype="ubinary" packs eight components in a byte, and {dim} is no multiple of 8; choose dim='
        )
    if dtype == "int8" and ranges is None:
        raise InputError(
            'dtype="int8" needs the range of each component, which this model does not have: it is kept in int8 '
            "artefacts, and in OpenVINO's fp32 artefacts that were given texts (but not for vectors that are centered "
            "and cut); "
            'build one anew: nimbed.quantize(model, out), or with precision="fp32", calibration=texts'
        )


def convert(vectors: Float32Array, dtype: Dtype, ranges: Float32Array | None) -> AnyArray:
    """Vectors ``[n, dim]`` in another dtype.

    Args:
        vectors: float32.
        dtype: "float32" gives them as they are; "float16" rounds; "int8" counts 255 steps of each component's range,
            ``floor((x - least) / step) - 128``, what lies beyond the range at its end; "ubinary" has a bit for
            ``x > 0``, eight a byte, the first the highest: ``[n, dim / 8]``. As
            ``sentence_transformers.quantization.quantize_embeddings`` has them.
        ranges: float32 ``[2, dim]`` for int8.
    """
    if dtype == "float16":
        return vectors.astype(np.float16)
    if dtype == "ubinary":
        bits: UInt8Array = np.packbits(vectors > 0, axis=-1)
        return bits
    if dtype == "int8" and ranges is not None:
        least = ranges[0]
        step = (ranges[1] - least) / 255
        with np.errstate(over="ignore"):  # beyond all steps; what is beyond the range is put at its end
            steps = np.floor((vectors - least) / np.where(step == 0, 1, step))
        codes: Int8Array = (np.clip(steps, 0, 255) - 128).astype(np.int8)
        return codes
    return vectors
