"""A task of mteb's on a nimbed encoder, without network, agrees with our own figures."""

from __future__ import annotations

import pytest

from nimbed import Encoder, SpecOverrides
from nimbed.evaluate import RetrievalSet, Setting, StsSet, evaluate

mteb = pytest.importorskip("mteb")

from nimbed.mteb import MtebEncoder  # noqa: E402 (skipped where mteb is missing)

TOPICS = ("cats sleep all day", "prices rose in may", "rivers run to the sea", "the train was late", "bread needs salt")
PAIRS = [
    *zip(
        TOPICS,
        ("cats sleep at night", "prices rose", "a river ran", "late again", "gold"),
        (5.0, 4.5, 3.0, 2.0, 0.0),
        strict=True,
    )
]


def metadata(name: str, kind: str, score: str):
    return mteb.TaskMetadata(
        name=name,
        description="Made up.",
        dataset={"path": "local/none", "revision": "1"},
        type=kind,
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score=score,
        reference=None,
    )


@pytest.fixture(scope="module")
def local(peps):
    """Paragraphs, and every fourth word of some as queries: no two scores are equal, whose order would be free."""
    texts = list(dict.fromkeys(" ".join(text.split()) for text in peps if 200 < len(text) < 400))[:60]
    docs = {f"d{i}": text for i, text in enumerate(texts)}
    queries = {f"q{i}": " ".join(docs[f"d{i}"].split()[::4]) for i in range(0, 60, 4)}
    qrels = {f"q{i}": {f"d{i}": 1, f"d{(i + 1) % 60}": 2, f"d{(i + 9) % 60}": 1} for i in range(0, 60, 4)}
    return RetrievalSet(name="local", docs=docs, queries=queries, qrels=qrels)


def retrieval_task(local: RetrievalSet):
    from datasets import Dataset
    from mteb.abstasks import AbsTaskRetrieval

    class Local(AbsTaskRetrieval):
        metadata = metadata("NimbedLocalRetrieval", "Retrieval", "ndcg_at_10")

        def load_data(self, num_proc=None, **kwargs):
            split = {
                "corpus": Dataset.from_list([{"id": k, "title": "", "text": t} for k, t in local.docs.items()]),
                "queries": Dataset.from_list([{"id": k, "text": t} for k, t in local.queries.items()]),
                "relevant_docs": {query: dict(judged) for query, judged in local.qrels.items()},
                "top_ranked": None,
            }
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return Local()


def sts_task():
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskSTS

    class Local(AbsTaskSTS):
        metadata = metadata("NimbedLocalSTS", "STS", "cosine_spearman")
        min_score, max_score = 0, 5

        def load_data(self, num_proc=None, **kwargs):
            rows = [{"sentence1": a, "sentence2": b, "score": s} for a, b, s in PAIRS]
            self.dataset, self.data_loaded = DatasetDict(test=Dataset.from_list(rows)), True

    return Local()


def main_score(encoder: Encoder, task) -> float:
    result = mteb.evaluate(MtebEncoder(encoder), task, cache=None, show_progress_bar=False, co2_tracker=False)
    return result.task_results[0].get_score()


@pytest.mark.filterwarnings("default")  # mteb's own
def test_retrieval_agrees_with_ours(local):
    with Encoder("any", backend="fake") as encoder:
        theirs = main_score(encoder, retrieval_task(local))
    report = evaluate([Setting(model="any", backend="fake")], retrieval=[local], resamples=100)
    ours = next(score.value for score in report.scores if score.metric == "nDCG@10")
    assert 0.2 < ours < 0.95
    assert theirs == pytest.approx(ours, abs=1e-5)


@pytest.mark.filterwarnings("default")  # mteb's own
def test_sts_agrees_with_ours():
    with Encoder("any", backend="fake") as encoder:
        theirs = main_score(encoder, sts_task())
    first, second, gold = zip(*PAIRS, strict=True)
    pairs = StsSet(name="local", first=first, second=second, gold=gold)
    report = evaluate([Setting(model="any", backend="fake")], sts=[pairs], resamples=100)
    assert theirs == pytest.approx(report.scores[0].value, abs=1e-5)


def test_queries_get_the_query_prompt(local):
    from mteb.types import PromptType

    batches = [{"text": ["one", "two"]}, {"text": ["three"]}]
    spec = SpecOverrides(prompts={"query": "ask: ", "document": ""})
    with Encoder("any", backend="fake", spec=spec) as encoder:
        wrapped = MtebEncoder(encoder)
        task = {"task_metadata": retrieval_task(local).metadata, "hf_split": "test", "hf_subset": "default"}
        for prompt_type, role in ((PromptType.query, "query"), (PromptType.document, "document"), (None, "document")):
            found = wrapped.encode(batches, prompt_type=prompt_type, batch_size=8, **task)
            assert (found == encoder.encode(["one", "two", "three"], role=role)).all()
        assert wrapped.encode([], **task).shape == (0, 384)
        assert isinstance(wrapped, mteb.EncoderProtocol)
        assert wrapped.mteb_model_meta.revision == encoder.fingerprint
