"""Every family of networks at its real width and depth, seeded: fp32 against torch, int8 judged where it can fail.

Networks have branches as large as the residual that they join ("plain"), and outliers where trained ones have them
("planted"): tests/support/networks.py. What second passes take of the documents' time is measured in turns with and
without them. A family that a run leaves out stays in the file as it was. Exits with 1 where a gate fails; what the
engine does not open is reported so.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _common
import _second_passes
import numpy as np

from nimbed import Encoder, NimbedError, Reranker, quantize
from nimbed.spec import SpecOverrides

sys.path.insert(0, str(_common.ROOT))
from tests.support import networks, oracles, rounding
from tests.support.plain_encoder import PlainEncoder
from tests.support.rotary_families import FAMILIES

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    import numpy.typing as npt
    from tests.support.network_families import Family

    Vectors = npt.NDArray[np.float32]

TEXTS, QUICK_TEXTS = 64, 24
STRETCH, STRETCHES = 12, 4  # words of a query, and queries of a text: some two hundred, or agreement is noise
VARIANTS = ("plain", "planted")
MAX_LENGTH = 256
MIN_COSINE = 0.999999
MAX_SCORE_ERROR = 1e-4  # in standard deviations of all scores
MAX_SECOND_PASSES = 0.25  # of a document's time
TASK = "retrieval.passage"  # whose adapters a document's vector comes from
PLAIN = SpecOverrides(prompts={"query": "", "document": ""})


def main() -> int:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--family", action="append", choices=list(FAMILIES), help="only this one; may be repeated")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="only this one; the other stays as it was")
    parser.add_argument("--layers", type=int, help="another depth than the real one")
    options = parser.parse_args()
    texts = _common.passages(options.data, QUICK_TEXTS if options.quick else TEXTS)
    conditions = _common.conditions(texts=len(texts), max_length=MAX_LENGTH)
    some = options.family or options.variant
    families = _common.earlier(options, "families", "families") if some else {}
    for name in options.family or FAMILIES:
        families.setdefault(name, {})
        for variant in options.variant or VARIANTS:
            families[name][variant] = measured(name, variant, texts, options) | {"layers": options.layers or "all"}
            print(f"{name:20} {variant:8} {json.dumps(families[name][variant])}", flush=True)
    record = {"conditions": conditions, "families": families}
    return _common.finish(options, "families", record, judge(families))


def measured(name: str, variant: str, texts: Sequence[str], options: Namespace) -> dict[str, Any]:
    """Figures of one network; ``refused`` says why the engine has none."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["NIMBED_HOME"] = home
        folder = Path(home) / name
        networks.write_folder(name, folder, size="real", layers=options.layers, variant=variant)
        of_one = scores if FAMILIES[name].scores else vectors
        return of_one(FAMILIES[name], folder, texts)


def vectors(family: Family, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """A bi-encoder: the texts are documents, short stretches of each are queries."""
    asked = [stretch for text in texts for stretch in stretches(text)]
    everything = [*texts, *asked]
    ids = networks.token_ids(folder, everything, longest=MAX_LENGTH)
    exact = oracles.oracle_vectors(folder, ids, task=TASK if family.adapters else None)
    found: dict[str, Any] = {
        "queries": len(asked),
        "4-bit weights": figures(exact, crude(family, folder, ids), len(texts)),
    }
    for precision in ("fp32", "int8"):
        try:
            model, made = opened(folder, precision, ids[: len(texts)])
            with Encoder(
                model, backend="native", precision=precision, max_length=MAX_LENGTH, truncate="silent", spec=PLAIN
            ) as encoder:
                got = encoder.encode(everything)
        except NimbedError as refused:
            found[precision] = {"refused": str(refused).replace(str(folder), folder.name)}
        else:
            found[precision] = figures(exact, got, len(texts)) | made
    return found


def stretches(text: str) -> list[str]:
    """Up to ``STRETCHES`` queries: one after another from the text's first word on, none shorter than the others."""
    words = text.split()
    starts = range(0, min(len(words) - STRETCH, STRETCH * (STRETCHES - 1)) + 1, STRETCH)
    return [" ".join(words[start : start + STRETCH]) for start in starts]


def opened(folder: Path, precision: str, documents: Sequence[Sequence[int]]) -> tuple[Path, dict[str, Any]]:
    """What an encoder opens; of int8 the artefact, what its own gate missed on the held-out texts, and what it costs.

    A seeded network has texts that upset it, one in hundreds: with `force` such an artefact is mended and published.
    """
    if precision == "fp32":
        return folder, {}
    made = quantize(folder, backend="native", force=True, progress=False)
    missed = made.manifest.quality["missed"]
    return made.folder, {
        "missed": {name: made.manifest.quality[name] for name in missed},
        "second_passes": _second_passes.cost(made.folder, [np.int32(ids) for ids in documents]),
    }


def crude(family: Family, folder: Path, ids: Sequence[Sequence[int]]) -> Vectors:
    """Vectors of the network with 4-bit weights, which must fail."""
    exact = oracles.plain_encoder(folder, task=TASK if family.adapters else None)
    encoder = PlainEncoder(exact.anatomy, rounding.with_rounded_weights(exact.tensors, 4))
    return oracles.pooled(folder, [encoder.tokens(one).numpy() for one in ids])


def figures(exact: Vectors, got: Vectors, documents: int) -> dict[str, Any]:
    """Worst cosine, error over spread and agreement, and whether int8's bounds hold."""
    found = rounding.verdict(exact, got, documents)
    worst = _common.worst_and_mean_cosine(exact, got)[0]
    return {**vars(found), "worst_cosine": worst, "holds": found.holds}


def scores(_: Family, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """A cross-encoder: the first words of each text with the text, and with the next one."""
    pairs = [(" ".join(text.split()[:STRETCH]), texts[(at + apart) % len(texts)]) for apart in (0, 1)
             for at, text in enumerate(texts)]  # fmt: skip
    tokenizer = networks.read_tokenizer(folder)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH, strategy="longest_first")
    encoded = tokenizer.encode_batch(pairs)
    exact = oracles.oracle_scores(folder, [one.ids for one in encoded], [one.type_ids for one in encoded])[:, 0]
    found: dict[str, Any] = {}
    for precision in ("fp32", "int8"):
        try:
            model, made = opened(folder, precision, [one.ids for one in encoded])
            with Reranker(model, backend="native", precision=precision, max_length=MAX_LENGTH) as reranker:
                got = reranker.score_pairs(pairs)
        except NimbedError as refused:
            found[precision] = {"refused": str(refused).replace(str(folder), folder.name)}
        else:
            found[precision] = {
                "worst_difference_in_deviations": float(np.abs(got - exact).max() / exact.std()),
                "error_over_spread": rounding.score_error_over_spread(exact, got),
                **made,
            }
    return found


def judge(families: dict[str, dict[str, dict[str, Any]]]) -> dict[str, bool]:
    """The gates, by name; a family that is refused misses its own."""
    gates = {}
    for name, variants in families.items():
        for variant, found in variants.items():
            where = f"{name}, {variant}"
            if (cost := found["int8"].get("second_passes")) is not None:
                gate = f"{where}: second passes take at most {MAX_SECOND_PASSES:.0%} of a document's time"
                gates[gate] = cost["share_of_time"] <= MAX_SECOND_PASSES
            if FAMILIES[name].scores:
                error = found["fp32"].get("worst_difference_in_deviations", np.inf)
                gates[f"{where}: fp32 within {MAX_SCORE_ERROR} deviations"] = error <= MAX_SCORE_ERROR
                error = found["int8"].get("error_over_spread", np.inf)
                gates[f"{where}: int8 error over spread"] = error <= rounding.MAX_ERROR_OVER_SPREAD
                continue
            gates[f"{where}: fp32 cosine >= {MIN_COSINE}"] = found["fp32"].get("worst_cosine", 0) >= MIN_COSINE
            gates[f"{where}: int8 error over spread and agreement"] = found["int8"].get("holds", False)
            gates[f"{where}: 4-bit weights fail"] = not found["4-bit weights"]["holds"]
    return gates


if __name__ == "__main__":
    sys.exit(main())
