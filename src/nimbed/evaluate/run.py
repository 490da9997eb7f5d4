"""Settings run over sets: each text is encoded once a setting, and only figures are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from nimbed._text.checks import check_whole
from nimbed.errors import InputError
from nimbed.evaluate.bootstrap import Mean, Spearman, compare, value
from nimbed.evaluate.loaders import RerankSet, RetrievalSet, StsSet, load_rerank, load_retrieval, load_sts
from nimbed.evaluate.metrics import rerank_scores, retrieval_scores
from nimbed.evaluate.report import MixedScore, Report, Score, Speed
from nimbed.evaluate.settings import settings_of
from nimbed.evaluate.timed import Timed, embed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from os import PathLike

    from nimbed._types import Float32Array
    from nimbed.evaluate.bootstrap import Comparison, Statistic
    from nimbed.evaluate.report import Kind
    from nimbed.evaluate.settings import Embedder, Opens, Setting

    Set = RetrievalSet | StsSet | RerankSet
    Path = str | PathLike[str]


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What one setting gave on one set; ``mixed`` and ``docs`` only where mixing is asked for."""

    statistics: Mapping[str, Statistic]
    items: int
    speed: Speed
    mixed: Mapping[str, Statistic] = field(default_factory=dict)
    docs: Float32Array | None = None


def evaluate(
    settings: Sequence[str | Setting | Opens[Embedder]],
    *,
    retrieval: Sequence[Path | RetrievalSet] = (),
    sts: Sequence[Path | StsSet] = (),
    rerank: Sequence[Path | RerankSet] = (),
    mixed: bool = False,
    max_length: int | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Measure settings on sets, against the last setting.

    Vectors are compared by the dot product of what is left after normalizing them. Retrieval gives nDCG@10,
    recall@100 and MRR@10; sts gives Spearman's correlation; rerank gives MAP and MRR over all of a query's documents.

    Args:
        settings: ``MODEL`` or ``MODEL@precision=int8,dim=128`` (:meth:`Setting.parse`), :class:`Setting`, or objects
            of your own (:class:`Opens`). The last is the reference.
        retrieval: folders (:func:`load_retrieval`) or sets.
        sts: files (:func:`load_sts`) or sets.
        rerank: files (:func:`load_rerank`) or sets.
        mixed: also each setting's queries against the reference's documents.
        max_length: tokens that a text keeps, for settings that do not say it.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        progress: show progress bars on standard error.

    Returns:
        a frozen :class:`Report`.

    Raises:
        InputError: a set or setting cannot be used; names file and line.
        NimbedError: what :class:`nimbed.Encoder` raises.

    Example:
        >>> from nimbed.evaluate import RetrievalSet, Setting
        >>> pets = RetrievalSet(
        ...     name="pets",
        ...     docs={"a": "The cat sat on the mat.", "b": "Prices rose in May."},
        ...     queries={"q": "Where did the cat sit?"},
        ...     qrels={"q": {"a": 1}},
        ... )
        >>> small = Setting(model="any-name", backend="fake", dim=64, name="small")
        >>> report = evaluate([small, "any-name@backend=fake"], retrieval=[pets], resamples=200)
        >>> [(score.setting, score.metric, score.value) for score in report.scores if score.metric == "nDCG@10"]
        [('small', 'nDCG@10', 1.0), ('any-name@backend=fake', 'nDCG@10', 1.0)]
    """
    chosen = settings_of(settings)
    sets = _sets(retrieval, sts, rerank)
    _check_early(chosen, max_length, mixed=mixed, resamples=resamples, seed=seed)
    run = _Run(sets=sets, max_length=max_length, mixed=mixed, progress=progress)
    reference = run.setting(chosen[-1], None)
    measured = {chosen[-1].label: reference}
    for setting in chosen[:-1]:
        measured[setting.label] = run.setting(setting, reference)

    def compared(first: Statistic, second: Statistic, items: int) -> Comparison:
        return compare(first, second, items, resamples=resamples, seed=seed)

    labels = [setting.label for setting in chosen]
    return Report(
        settings=labels,
        scores=[score for number in range(len(sets)) for score in _scores(number, labels, measured, compared)],
        mixed=[score for number in range(len(sets)) for score in _mixed(number, labels, measured, compared)],
        speeds=[measured[label][number].speed for number in range(len(sets)) for label in labels],
        max_length=max_length,
        resamples=resamples,
        seed=seed,
    )


def _sets(
    retrieval: Sequence[Path | RetrievalSet], sts: Sequence[Path | StsSet], rerank: Sequence[Path | RerankSet]
) -> list[Set]:
    """All sets, loaded before anything is measured."""
    loaded: list[Set] = [
        *(s if isinstance(s, RetrievalSet) else load_retrieval(s) for s in retrieval),
        *(s if isinstance(s, StsSet) else load_sts(s) for s in sts),
        *(s if isinstance(s, RerankSet) else load_rerank(s) for s in rerank),
    ]
    if not loaded:
        raise InputError("there is nothing to evaluate on; name a retrieval folder, an STS file or a rerank file")
    names = [item.name for item in loaded]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two sets are called {repeated[0]!r}; rename one's folder")
    return loaded


def _check_early(
    settings: Sequence[Opens[Embedder]], max_length: int | None, *, mixed: bool, resamples: int, seed: int
) -> None:
    """Open every setting once, so that what is wrong with the last is known before the first has run for minutes."""
    check_whole(resamples, "resamples", minimum=100, maximum=10_000_000)
    check_whole(seed, "seed", minimum=0)
    if mixed and len(settings) < 2:
        raise InputError("mixed needs two settings: one for the queries, and the reference for the documents")
    dims = {}
    for setting in settings:
        with setting.open(max_length) as embedder:
            dims[setting.label] = embed(embedder, ["a text"], "document").shape[1]
    if mixed and len(set(dims.values())) > 1:
        raise InputError(f"mixed compares vectors of one width, and these differ: {dims}; give each the same dim")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The sets, and how settings are run over them."""

    sets: Sequence[Set]
    max_length: int | None
    mixed: bool
    progress: bool

    def setting(self, setting: Opens[Embedder], reference: Sequence[_Measured] | None) -> list[_Measured]:
        """One setting over all sets; ``reference`` is what its queries are mixed with, None for the reference."""
        from tqdm.auto import tqdm

        measured = []
        with setting.open(self.max_length) as embedder:
            for number, item in enumerate(tqdm(self.sets, desc=setting.label, unit="set", disable=not self.progress)):
                before = embedder.stats().truncated
                timed = Timed(embedder, progress=self.progress)
                statistics, kept, mixed = self._one(timed, item, reference[number].docs if reference else None)
                speed = Speed(
                    kind=_kind(item),
                    set=item.name,
                    setting=setting.label,
                    texts=timed.texts,
                    seconds=timed.seconds,
                    truncated=embedder.stats().truncated - before,
                )
                keep = kept if self.mixed and reference is None else None
                measured.append(
                    _Measured(statistics=statistics, items=_items(item), speed=speed, mixed=mixed, docs=keep)
                )
        return measured

    def _one(
        self, timed: Timed, item: Set, others: Float32Array | None
    ) -> tuple[Mapping[str, Statistic], Float32Array | None, Mapping[str, Statistic]]:
        """Figures, the documents' vectors, and figures with the reference's documents."""
        if isinstance(item, StsSet):
            return {"Spearman": _sts(timed, item)}, None, {}
        if isinstance(item, RerankSet):
            return _rerank(timed, item), None, {}
        docs = timed.documents(list(item.docs.values()))
        queries = timed.queries(list(item.queries.values()))
        mixed = {} if others is None else _retrieval(others, queries, item)
        return _retrieval(docs, queries, item), docs, mixed


def _retrieval(docs: Float32Array, queries: Float32Array, item: RetrievalSet) -> dict[str, Statistic]:
    return {metric: Mean(values) for metric, values in retrieval_scores(docs, queries, item).items()}


def _sts(timed: Timed, item: StsSet) -> Statistic:
    vectors = timed.documents([*item.first, *item.second])
    left, right = np.split(vectors, 2)
    return Spearman((left * right).sum(axis=1), item.gold)


def _rerank(timed: Timed, item: RerankSet) -> dict[str, Statistic]:
    """Each query's documents in the order of their scores.

    A cross-encoder scores a query with its documents, so it would be asked here in place of :func:`_by_cosine`: the
    rest needs no more than the scores.
    """
    scored = _by_cosine(timed, item)
    values = [rerank_scores(scores, len(one.positive)) for scores, one in zip(scored, item.items, strict=True)]
    means, ranks = np.array(values, np.float64).T
    return {"MAP": Mean(means), "MRR": Mean(ranks)}


def _by_cosine(timed: Timed, item: RerankSet) -> Iterator[Float32Array]:
    """float32 ``[documents]`` of each query, the positive ones first."""
    queries = timed.queries([one.query for one in item.items])
    docs = timed.documents(list(chain.from_iterable((*one.positive, *one.negative) for one in item.items)))
    ends = np.cumsum([len(one.positive) + len(one.negative) for one in item.items])
    for query, own in zip(queries, np.split(docs, ends[:-1]), strict=True):
        yield own @ query


def _scores(
    number: int,
    labels: Sequence[str],
    measured: Mapping[str, Sequence[_Measured]],
    compared: Callable[[Statistic, Statistic, int], Comparison],
) -> Iterator[Score]:
    """Of one set: by metric, then by setting."""
    reference = measured[labels[-1]][number]
    for metric, theirs in reference.statistics.items():
        for label in labels:
            own = measured[label][number].statistics[metric]
            yield Score(
                kind=reference.speed.kind,
                set=reference.speed.set,
                metric=metric,
                setting=label,
                items=reference.items,
                value=value(own, reference.items),
                against_reference=None if own is theirs else compared(own, theirs, reference.items),
            )


def _mixed(
    number: int,
    labels: Sequence[str],
    measured: Mapping[str, Sequence[_Measured]],
    compared: Callable[[Statistic, Statistic, int], Comparison],
) -> Iterator[MixedScore]:
    """Of one set: by setting, then by metric."""
    reference = measured[labels[-1]][number]
    for label in labels[:-1]:
        own = measured[label][number]
        for metric, mixed in own.mixed.items():
            yield MixedScore(
                set=reference.speed.set,
                metric=metric,
                queries=label,
                documents=labels[-1],
                value=value(mixed, reference.items),
                against_queries=compared(mixed, own.statistics[metric], reference.items),
                against_documents=compared(mixed, reference.statistics[metric], reference.items),
            )


def _kind(item: Set) -> Kind:
    return "retrieval" if isinstance(item, RetrievalSet) else "sts" if isinstance(item, StsSet) else "rerank"


def _items(item: Set) -> int:
    if isinstance(item, RetrievalSet):
        return sum(any(s > 0 for s in item.qrels.get(query, {}).values()) for query in item.queries)
    return len(item.gold) if isinstance(item, StsSet) else len(item.items)
