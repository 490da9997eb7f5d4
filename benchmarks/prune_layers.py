"""Fewer layers: all-MiniLM-L6-v2 cut to 5, 4 and 3 layers, distilled back to its own vectors, and measured.

From deep to shallow: the layer whose loss costs the least cosine goes, the rest is distilled for some minutes, and the
next layer goes from there. It learns from passages of PEPs and of the Rust book in Chinese, excerpts of them, and the
sentences of STS-B's training pairs, without the texts that nimbed ships: of these, the calibrating half chooses the
layer, and the held-out half measures, as it does for int8. Nothing before sees the sets that judge.

Gates, for each depth, say what would make it worth an option of ``nimbed quantize``: int8's quality gate; a loss of at
most 1 % of nDCG@10 on each set and of 0.003 on STS; nine tenths of the speed that fewer layers promise. The networks
stay in ``--folders``, as model folders that sentence-transformers and nimbed open; ``--measure`` takes them from there.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _common
import _pruning
import numpy as np
import torch
from _pruning_report import Network, judge, show
from quality_table import load, present

import nimbed
from nimbed import Encoder, _machine
from nimbed._loading.hub import Source, resolve
from nimbed._text.text_files import texts_of
from nimbed._text.tokenizer import TextTokenizer, load_tokenizer
from nimbed.backends.openvino_api import ov
from nimbed.evaluate import Setting, evaluate, load_sts
from nimbed.quantization import QualityGate
from nimbed.quantization.calibration import SHIPPED, choose, excerpt, read_texts
from nimbed.quantization.closeness import quality
from nimbed.quantization.openvino.exact import vectors_of
from nimbed.spec import read_spec

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from nimbed._types import Int32Array
    from nimbed.evaluate import Report
    from nimbed.quantization.calibration import CalibrationSet

    Tokenize = Callable[[Sequence[str]], Sequence[Int32Array]]

CHINESE, SENTENCES = "throughput_trpl_zh/chunks.jsonl.gz", "stsb_en_train/pairs.tsv.gz"
MAX_LENGTH = 256
RECORD = "pruning.json"


def arguments() -> argparse.Namespace:
    parser = _common.parser(__doc__)
    _common.add_data(parser)
    parser.add_argument("--layers", type=int, nargs="+", default=[5, 4, 3], help="depths to make")
    parser.add_argument("--minutes", type=float, default=12, help="of training for each depth")
    parser.add_argument("--steps", type=int, help="batches of training for each depth, instead of minutes")
    parser.add_argument("--whole", type=int, default=4000, help="passages trained on whole; all come as excerpts")
    parser.add_argument("--texts", type=int, default=256, help="passages that speed is measured on")
    parser.add_argument("--pairs", type=int, default=5, help="how often A B is repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folders", type=Path, default=_common.ROOT / "build" / "pruned", help="for the networks")
    parser.add_argument("--sets", nargs="+", help="names of the sets that judge; all unless given")
    parser.add_argument("--measure", action="store_true", help="only measure the networks that --folders has")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.whole, options.texts, options.pairs = 10, 20, 32, 2
        options.layers = options.layers[:1]
    return options


def main() -> int:
    options = arguments()
    source = resolve(options.model, Source()).folder
    torch.set_num_threads(_machine.thread_plan().threads)
    fast = _machine.cpu().fast_int8
    conditions = _common.conditions(
        max_length=MAX_LENGTH,
        speeds="fp32 and int8" if fast else "fp32 alone: this CPU multiplies int8 no faster",
    )
    networks = (found if options.measure else make)(options, source)
    close = closeness(networks)
    report = judged(options, networks)
    wanted = [(n, kind) for n in networks[1:] for kind in ("fp32", *["int8"] * fast) if f"{n.label}, {kind}" in close]
    speeds = [speed(options, networks[0], *one) for one in wanted]
    show(networks, close, report, speeds)
    record = {
        "conditions": conditions,
        "networks": {network.label: network.record for network in networks},
        "closeness": close,
        "speed": speeds,
        "report": report.to_dict(),
    }
    return _common.finish(options, "prune_layers", record, judge(networks, close, report, speeds))


def make(options: argparse.Namespace, source: Path) -> list[Network]:
    """The original and the pruned networks, deep to shallow, each with its record beside it."""
    pooling, tokenize = read_spec(source).pooling, tokenizer_of(source)
    sequences = tokenize(training_texts(options))
    taught = {"texts": len(sequences), "tokens": sum(map(len, sequences))}
    print(f"the original's vectors of {taught['texts']} texts, {taught['tokens']} tokens", file=sys.stderr)
    teacher = _pruning.load(source)
    lesson = _pruning.Lesson.by(teacher, pooling, sequences)
    chooses = _pruning.Lesson.by(teacher, pooling, shipped(tokenize).calibrate)
    made = [Network(layers=len(teacher.encoder.layer), folder=source)]

    def learn(model: Any) -> dict[str, float]:  # noqa: ANN401 (a class for each architecture)
        return _pruning.distil(model, lesson, steps=options.steps, minutes=options.minutes, seed=options.seed)

    for model, record in _pruning.prune(teacher, options.layers, chooses, learn):
        depth = len(record["kept"])
        made.append(Network(layers=depth, folder=options.folders / f"{depth}-layers", record={**record, **taught}))
        _pruning.write(model, source, made[-1].folder)
        (made[-1].folder / RECORD).write_text(json.dumps(made[-1].record, indent=2) + "\n", encoding="utf-8")
    return made


def found(options: argparse.Namespace, source: Path) -> list[Network]:
    """The original and the networks that an earlier run has made, deep to shallow."""
    made = [Network(layers=json.loads((source / "config.json").read_text())["num_hidden_layers"], folder=source)]
    for depth in sorted(options.layers, reverse=True):
        folder = options.folders / f"{depth}-layers"
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        made.append(Network(layers=depth, folder=folder, record=record))
    return made


def tokenizer_of(source: Path) -> Tokenize:
    """Token ids as the build of an artefact makes them."""
    spec = read_spec(source)
    length = min(MAX_LENGTH, spec.max_length)
    tokenizer = TextTokenizer(load_tokenizer(source), spec, max_length=length, truncate="silent")
    return lambda texts: tokenizer(texts, spec.prompt("document")).sequences


def shipped(tokenize: Tokenize) -> CalibrationSet:
    """The texts that nimbed ships, divided as a build does it unless it is told otherwise."""
    usual = nimbed.Calibration()
    return choose(read_texts(None), tokenize, count=usual.count, seed=usual.seed, origin=SHIPPED)


def training_texts(options: argparse.Namespace) -> list[str]:
    """Some passages whole, excerpts of all, and sentences; no passage that stands in the texts that nimbed ships."""
    rng, most = np.random.default_rng(options.seed), 10 * options.whole
    kept_apart = squeezed("\0".join(read_texts(None)))
    found = list(_common.iter_passages(options.data))
    found += [text for name in present(options.data, [CHINESE]) for text in texts_of(options.data / name)]
    passages = [text for text in dict.fromkeys(found) if squeezed(text) not in kept_apart]
    pairs = [load_sts(options.data / name) for name in present(options.data, [SENTENCES])]
    sentences = list(dict.fromkeys(sentence for one in pairs for sentence in (*one.first, *one.second)))
    excerpts = [excerpt(text, rng) for text in _common.spread(passages, most)]
    return [*_common.spread(passages, options.whole), *excerpts, *_common.spread(sentences, most)]


def squeezed(text: str) -> str:
    """Without white space, by which copies of a text differ."""
    return "".join(text.split())


def closeness(networks: Sequence[Network]) -> dict[str, dict[str, Any]]:
    """Vectors of the held-out texts against the original's in fp32, by network and precision, as int8's gate sees them.

    Rounding is computed as CPUs with VNNI give it.
    """
    held_out = shipped(tokenizer_of(networks[0].folder)).held_out
    found: dict[str, dict[str, Any]] = {}
    exact = None
    for network in networks:
        for precision in ("fp32", "int8"):
            if (artefact := network.artefact(precision)) is None:
                continue
            vectors = vectors_of(ov.Core().read_model(artefact.folder / "model.xml"), held_out)
            exact = vectors if exact is None else exact
            measured = quality(exact, vectors, len(held_out) // 2)
            missed = sorted(QualityGate().failures(measured))
            found[f"{network.label}, {precision}"] = {**measured, "missed": missed}
    return found


def judged(options: argparse.Namespace, networks: Sequence[Network]) -> Report:
    """Every set of the data folder, or those asked for, in fp32, against the original."""
    loaded = load(options)
    retrieval, sts, rerank = (
        [one for one in kind if options.sets is None or one.name.partition("/")[0] in options.sets] for kind in loaded
    )
    settings = [Setting(model=str(n.folder), backend="openvino", precision="fp32", name=n.label) for n in networks]
    return evaluate(
        [*settings[1:], settings[0]],
        retrieval=retrieval,
        sts=sts,
        rerank=rerank,
        max_length=MAX_LENGTH,
        progress=True,
    )


def speed(options: argparse.Namespace, original: Network, pruned: Network, precision: str) -> dict[str, Any]:
    """The original (A) and a pruned network (B) take turns."""
    texts, queries = _common.passages(options.data, options.texts), _common.questions()
    with opened(original, precision) as first, opened(pruned, precision) as second:
        for encoder in (first, second):
            docs_per_second(encoder, texts)
            p50_ms(encoder, queries)
        documents = _common.alternate(
            "documents a second",
            lambda: docs_per_second(first, texts),
            lambda: docs_per_second(second, texts),
            options.pairs,
        )
        latencies = _common.alternate(
            "query p50, ms", lambda: p50_ms(first, queries), lambda: p50_ms(second, queries), options.pairs
        )
    return {
        "network": pruned.label,
        "precision": precision,
        "docs_per_second": side_by_side(*documents),
        "query_p50_ms": side_by_side(*latencies),
    }


def opened(network: Network, precision: str) -> Encoder:
    """Without a cache: the same texts come again and again."""
    return Encoder(
        network.folder, backend="openvino", precision=precision, max_length=MAX_LENGTH, truncate="silent", cache=None
    )


def docs_per_second(encoder: Encoder, texts: Sequence[str]) -> float:
    return len(texts) / _common.seconds(lambda: encoder.encode(texts))


def p50_ms(encoder: Encoder, queries: Sequence[str]) -> float:
    return 1000 * statistics.median(_common.seconds(lambda q=q: encoder.encode_query(q)) for q in queries)


def side_by_side(original: Sequence[float], pruned: Sequence[float]) -> dict[str, Any]:
    """Every value, the ratio of the medians (pruned in original), and the range of the pairs' own ratios."""
    each = np.divide(pruned, original)
    ratio = statistics.median(pruned) / statistics.median(original)
    return {"original": original, "pruned": pruned, "ratio": ratio, "range": [each.min(), each.max()]}


if __name__ == "__main__":
    sys.exit(main())
