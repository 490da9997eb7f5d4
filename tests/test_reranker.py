"""Reranker: cross-encoders held against torch and sentence-transformers, sentence-embedding models against Encoder."""

from __future__ import annotations

import asyncio
import json
import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nimbed
from nimbed import Encoder, Reranker, SpecOverrides
from nimbed._loading.artefact import open_artefact
from nimbed.backends.fake import FakeSession
from nimbed.errors import ClosedError, InputError, InputTypeError, ModelNotFoundError, SpecError, TruncationError
from nimbed.quantization import QualityGate
from nimbed.reranker import RankedDocument, _ranked
from tests.support.building import build_here
from tests.support.cross_encoders import DOCUMENTS, KINDS, QUERY, WORDS, write_cross_encoder

LONG = "prices fell again " * 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cross_encoder(tmp_path_factory.mktemp("cross") / "tiny-cross")


@pytest.fixture(scope="module")
def cross(folder):
    """The pipeline around numbers that mean nothing, without an engine."""
    with Reranker(folder, backend="fake") as reranker:
        yield reranker


@pytest.fixture(scope="module")
def bi():
    with Reranker("any-name", backend="fake") as reranker:
        yield reranker


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_agrees_with_torch(native, tmp_path, kind):
    folder = write_cross_encoder(tmp_path / kind, kind)
    texts = [*DOCUMENTS, LONG]
    with Reranker(folder, backend="torch") as oracle, Reranker(folder, precision="fp32") as reranker:
        assert reranker.info.backend == "native"
        wanted, scores = oracle.scores(QUERY, texts), reranker.scores(QUERY, texts)
        assert oracle.kind == reranker.kind == "cross-encoder"
    assert np.ptp(wanted) > 0.01
    np.testing.assert_allclose(scores, wanted, atol=1e-4)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_openvino_agrees_with_torch(tmp_path, kind):
    folder = write_cross_encoder(tmp_path / kind, kind)
    made = build_here(folder, tmp_path / "artefact", precision="fp32")
    with Reranker(folder, backend="torch") as oracle, Reranker(made) as reranker:
        assert reranker.info.backend == "openvino"
        np.testing.assert_allclose(reranker.scores(QUERY, DOCUMENTS), oracle.scores(QUERY, DOCUMENTS), atol=1e-4)


@pytest.mark.parametrize("kind", ["electra", "modernbert"])
def test_8_bits_score_as_torch_does(native, tmp_path, kind):
    folder = write_cross_encoder(tmp_path / kind, kind)
    made = build_here(folder, tmp_path / "artefact", gate=QualityGate(kendall_tau=0.9))
    documents = [" ".join(WORDS[at : at + 4]) for at in range(len(WORDS) - 4)]
    with Reranker(folder, backend="torch") as oracle, Reranker(made) as reranker:
        assert (reranker.info.backend, reranker.info.precision) == ("native", "int8")
        assert np.corrcoef(reranker.scores(QUERY, documents), oracle.scores(QUERY, documents))[0, 1] > 0.99


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
@pytest.mark.parametrize("activation", ["activation.Sigmoid", "linear.Identity"])
def test_torch_agrees_with_sentence_transformers(tmp_path, kind, activation):
    from sentence_transformers import CrossEncoder

    config = {"sentence_transformers": {"activation_fn": f"torch.nn.modules.{activation}"}}
    folder = write_cross_encoder(tmp_path / kind, kind, **config)
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]} if kind == "bert" else {}
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": 32, "tokenizer_class": "PreTrainedTokenizerFast", **names, **special})
    )
    pairs = [(QUERY, text) for text in [*DOCUMENTS, LONG]] + [(LONG, "the cat sat"), (LONG, LONG)]
    wanted = CrossEncoder(str(folder), local_files_only=True, device="cpu").predict(pairs)
    with Reranker(folder, backend="torch") as reranker:
        np.testing.assert_allclose(reranker.score_pairs(pairs), wanted, atol=1e-5)


def test_scores_do_not_depend_on_order_or_neighbours(native, folder):
    texts = [" ".join(DOCUMENTS[i % 6] for i in range(n)) for n in range(40)]
    with Reranker(folder, backend="native", precision="fp32") as reranker:
        together = reranker.scores(QUERY, texts)
        np.testing.assert_array_equal(reranker.scores(QUERY, texts[::-1])[::-1], together)
        for index in (0, 7, 39):
            np.testing.assert_array_equal(reranker.scores(QUERY, [texts[index]]), together[[index]])


def test_rank_is_best_first_and_ties_keep_their_order(bi):
    documents = ["Prices rose in May.", "The cat sat.", "Prices rose in May.", "A cat was sitting there."]
    ranked = bi.rank("The cat sat.", documents)
    assert [one.index for one in ranked] == [1, 3, 0, 2]
    assert ranked[2].score == ranked[3].score
    assert bi.rank("The cat sat.", documents, top_k=2) == ranked[:2]
    assert bi.rank("The cat sat.", documents, top_k=9) == ranked


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.25, 3.0]), max_size=20), st.integers(1, 25))
@settings(deadline=None)
def test_ranking_is_a_stable_sort(scores, top_k):
    ranked = _ranked(np.array(scores, np.float32), top_k)
    wanted = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:top_k]
    assert ranked == [RankedDocument(i, scores[i]) for i in wanted]


@pytest.mark.parametrize("which", ["bi", "cross"])
def test_nothing_and_empty_strings(which, request):
    reranker = request.getfixturevalue(which)
    assert reranker.scores("a query", []).shape == (0,)
    assert reranker.rank("a query", []) == []
    assert np.isfinite(reranker.scores("", ["", "a text", ""])).all()


@pytest.mark.parametrize("which", ["bi", "cross"])
@pytest.mark.parametrize(
    ("query", "documents", "says"),
    [
        (None, ["a"], "the query must be one string, not NoneType"),
        (["a"], ["a"], r"the query must be one string, not list: \['a'\]"),
        ("q", "lone", "put it in a list"),
        ("q", None, "NoneType"),
        ("q", (t for t in "ab"), "not generator; make a list of it"),
        ("q", ["fine", 3], "item 1 is int"),
        ("q", [["nested"]], "item 0 is list"),
    ],
)
async def test_bad_input_is_named(which, query, documents, says, request):
    reranker = request.getfixturevalue(which)
    for call in (reranker.scores, reranker.rank):
        with pytest.raises(InputTypeError, match=says):
            call(query, documents)
    with pytest.raises(InputTypeError, match=says):
        await reranker.ascores(query, documents)


def test_bad_options_are_named(cross, folder):
    with pytest.raises(InputError, match="top_k=0"):
        cross.rank("q", ["a"], top_k=0)
    with pytest.raises(InputTypeError, match="item 1 is no pair"):
        cross.score_pairs([("q", "a"), "ab"])
    with pytest.raises(InputTypeError, match="item 0: both"):
        cross.score_pairs([("q", 3)])
    with pytest.raises(InputError, match='truncate="chunk"'):
        Reranker(folder, backend="fake", truncate="chunk")
    with pytest.raises(InputError, match="no pooling"):
        Reranker(folder, backend="fake", spec=SpecOverrides(pooling="mean"))
    with pytest.raises(InputError, match="item 1 is not valid Unicode"):
        cross.scores("q", ["fine", "\ud800"])


def test_other_models_are_refused_by_name(tmp_path, folder):
    with pytest.raises(ModelNotFoundError, match=r"config\.json is missing"):
        Reranker(tmp_path)
    two = shutil.copytree(folder, tmp_path / "two-labels")
    config = json.loads((two / "config.json").read_text())
    (two / "config.json").write_text(json.dumps({**config, "id2label": {"0": "no", "1": "yes"}}))
    with pytest.raises(SpecError, match="2 labels"):
        Reranker(two)
    (two / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(SpecError, match="names no pooling"):
        Reranker(two)


def test_encoder_points_at_reranker(folder):
    for backend in ("auto", "torch", "fake"):
        with pytest.raises(SpecError, match=r"tiny-cross is a cross-encoder.*open it with nimbed\.Reranker"):
            Encoder(folder, backend=backend)


def test_encoder_refuses_the_artefact_too(folder, tmp_path):
    artefact = build_here(folder, tmp_path / "artefact", precision="fp32").folder
    assert open_artefact(artefact).manifest.spec.task == "scoring"
    with pytest.raises(SpecError, match=r"nimbed\.Reranker"):
        Encoder(artefact)


def test_what_is_cut_follows_the_policy(folder):
    with Reranker(folder, backend="fake", truncate="warn") as reranker:
        with pytest.warns(UserWarning, match=r'1 of the texts \(first: item 1\).*"silent" says nothing') as caught:
            reranker.scores(QUERY, ["the cat", LONG])
        assert caught[0].filename == __file__
        assert reranker.stats().truncated == 1
    with Reranker(folder, backend="fake", truncate="error") as reranker, pytest.raises(TruncationError, match="item 1"):
        reranker.scores(QUERY, ["the cat", LONG])
    with Reranker(folder, backend="fake", max_length=8) as reranker:
        assert reranker.info.max_length == 8
        reranker.scores(QUERY, ["the cat", LONG])
        assert reranker.stats().tokens == 2 * 8


async def test_the_event_loop_stays_free(cross, monkeypatch):
    free, run = threading.Event(), FakeSession.run

    def wait_and_run(session, batch):
        assert free.wait(20), "the event loop stood still while the engine ran"
        return run(session, batch)

    monkeypatch.setattr(FakeSession, "run", wait_and_run)
    tasks = [
        asyncio.ensure_future(cross.arank(QUERY, DOCUMENTS)),
        asyncio.ensure_future(cross.ascores(QUERY, DOCUMENTS)),
    ]
    for _ in range(50):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    free.set()
    ranked, scores = await asyncio.gather(*tasks)
    assert ranked == _ranked(scores, None)
    np.testing.assert_array_equal(scores, cross.scores(QUERY, DOCUMENTS))


def test_many_threads_get_their_own_scores(cross):
    wanted = {text: cross.scores(text, DOCUMENTS) for text in DOCUMENTS}
    with ThreadPoolExecutor(8) as pool:
        for query, scores in pool.map(lambda q: (q, cross.scores(q, DOCUMENTS)), DOCUMENTS * 8):
            np.testing.assert_array_equal(scores, wanted[query])


@pytest.mark.parametrize("which", ["bi", "cross"])
def test_pickled_and_used_from_the_copy(which, request):
    reranker = request.getfixturevalue(which)
    with pickle.loads(pickle.dumps(reranker)) as copy:
        assert copy._model._runtime is None
        assert copy.kind == reranker.kind
        np.testing.assert_array_equal(copy.scores(QUERY, DOCUMENTS), reranker.scores(QUERY, DOCUMENTS))
        assert copy.fingerprint == reranker.fingerprint


async def test_a_copy_opens_within_an_event_loop(cross):
    with pickle.loads(pickle.dumps(cross)) as copy:
        np.testing.assert_array_equal(await copy.ascores(QUERY, DOCUMENTS), cross.scores(QUERY, DOCUMENTS))


def test_closed(folder):
    reranker = Reranker(folder, backend="fake")
    assert repr(reranker).startswith("Reranker(")
    reranker.close()
    with pytest.raises(ClosedError):
        reranker.scores(QUERY, DOCUMENTS)


def test_counts(folder):
    with Reranker(folder, backend="fake") as reranker:
        reranker.scores(QUERY, DOCUMENTS)
        stats = reranker.stats()
    assert stats.texts == len(DOCUMENTS)
    assert stats.tokens == sum(4 + 3 + len(text.split()) for text in DOCUMENTS)
    assert stats.latency_ms["document"].p50 > 0


def test_activation_is_part_of_the_fingerprint(tmp_path, folder):
    with Reranker(folder, backend="fake") as one:
        other = shutil.copytree(folder, tmp_path / "other")
        name = "torch.nn.modules.linear.Identity"
        (other / "config_sentence_transformers.json").write_text(json.dumps({"activation_fn": name}))
        with Reranker(other, backend="fake") as two:
            assert one.fingerprint != two.fingerprint


def test_a_bi_encoder_gives_the_cosine_with_the_roles_prompts():
    spec = SpecOverrides(prompts={"query": "find: ", "document": "text: "})
    with Reranker("m", backend="fake", spec=spec) as reranker, Encoder("m", backend="fake", spec=spec) as encoder:
        query, documents = encoder.encode_query(QUERY), encoder.encode(DOCUMENTS)
        norms = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)
        np.testing.assert_allclose(reranker.scores(QUERY, DOCUMENTS), documents @ query / norms, atol=1e-6)
        assert reranker.fingerprint == encoder.fingerprint


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("dot", lambda q, d: d @ q),
        ("euclidean", lambda q, d: -np.sqrt(((d - q) ** 2).sum(1))),
        ("manhattan", lambda q, d: -np.abs(d - q).sum(1)),
    ],
)
def test_a_bi_encoder_gives_the_similarity_that_its_authors_name(tiny_folder, tmp_path, name, wanted):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": name}))
    with Reranker(folder, backend="fake") as reranker, Encoder(folder, backend="fake") as encoder:
        scores = wanted(encoder.encode_query(QUERY), encoder.encode(DOCUMENTS))
        np.testing.assert_allclose(reranker.scores(QUERY, DOCUMENTS), scores, rtol=1e-5)


def test_an_unknown_similarity_is_refused(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "mine"}))
    with Reranker(folder, backend="fake") as reranker, pytest.raises(SpecError, match="similarity_fn_name: 'mine'"):
        reranker.scores(QUERY, DOCUMENTS)


def test_pairs_of_many_queries(bi, cross):
    pairs = [(query, text) for query in DOCUMENTS for text in (QUERY, *DOCUMENTS)]
    for reranker in (bi, cross):
        one_by_one = [reranker.scores(query, [text])[0] for query, text in pairs]
        np.testing.assert_allclose(reranker.score_pairs(pairs), one_by_one, atol=1e-6)


def test_public_name():
    assert "Reranker" in nimbed.__all__
