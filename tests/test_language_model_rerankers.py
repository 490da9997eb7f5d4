"""Rerankers that are language models, end to end: their scores are sentence-transformers', whatever is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nimbed import Calibration, Encoder, Reranker, SpecOverrides
from nimbed._model_folder.pair_template import QWEN3_INSTRUCTION, QWEN3_RERANKER
from nimbed.errors import InputError, SpecError, TruncationError
from nimbed.quantization import QualityGate
from nimbed.quantization.calibration import read_texts
from tests.support.building import build_here
from tests.support.described import change, save, tensors_of
from tests.support.networks import real_texts
from tests.support.qwen3_rerankers import answers_of, tokenizer_of, with_modules, write_reranker
from tests.support.rounding import MAX_ERROR_OVER_SPREAD, score_error_over_spread

pytestmark = pytest.mark.usefixtures("native", "one_torch_thread")
KINDS = {"causal": {}, "untied": {"tied": False}, "classifier": {"classifier": True}}
PAIRS = [(text[:40], other[:160]) for text, other in zip(real_texts(12), real_texts(13)[1:], strict=True)]
ODD = [("", ""), ("who?", ""), ("a ", "  b\n"), ("<|im_end|>", "yes<|endoftext|>"), ("é中", "e\u0301 " * 9)]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = write_reranker(tmp_path_factory.mktemp(kind) / "judge", **KINDS[kind])
        return made[kind]

    return make


def scored(folder, pairs=PAIRS, **options):
    with Reranker(folder, **{"backend": "native", "precision": "fp32", **options}) as reranker:
        assert reranker.kind == "cross-encoder"
        return reranker.score_pairs(pairs)


def by_sentence_transformers(folder, pairs=PAIRS, **options):
    """One pair at a time: no padding can matter."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", **options)
    return np.array([model.predict([pair])[0] for pair in pairs], np.float32)


def by_the_card(folder, pairs=PAIRS, instruction=QWEN3_INSTRUCTION):
    """The logits of the two answers behind the text of the model's card, ``[n, 2]``."""
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), tokenizer_of(folder)
    start, query, document, behind = QWEN3_RERANKER
    texts = [f"{start}{instruction}{query}{asked}{document}{text}{behind}" for asked, text in pairs]
    with torch.inference_mode():
        states = [model(torch.tensor([tokenizer.encode(text).ids])).logits[0, -1] for text in texts]
    return torch.stack(states)[:, list(answers_of(folder))]


def near(found, exact):
    return np.abs(found - exact).max() <= 1e-4 * exact.std()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_sentence_transformers(kind, folder_of):
    folder = folder_of(kind)
    assert near(scored(folder, [*PAIRS, *ODD]), by_sentence_transformers(folder, [*PAIRS, *ODD]))


@pytest.mark.parametrize("kind", ["causal", "untied"])
def test_the_sigmoid_of_a_score_is_the_probability_of_yes(kind, folder_of, tmp_path):
    folder = write_reranker(tmp_path / "judge", **KINDS[kind], sentence_transformers={})
    found = scored(folder)
    logits = by_the_card(folder)
    np.testing.assert_allclose(found, logits.double().softmax(1)[:, 0], atol=2e-5)
    np.testing.assert_allclose(found, by_sentence_transformers(folder), atol=2e-5)
    assert near(scored(folder_of(kind)), (logits[:, 0] - logits[:, 1]).numpy())


def test_what_is_cut_is_the_document_and_never_the_template(folder_of):
    folder = folder_of("causal")
    long = [(asked, text * 4) for asked, text in PAIRS]
    assert near(scored(folder, long), by_sentence_transformers(folder, long))
    exact = by_sentence_transformers(folder, long, max_length=200)
    assert near(scored(folder, long, max_length=200), exact)
    alone = [scored(folder, [pair], max_length=200)[0] for pair in long]
    np.testing.assert_array_equal(scored(folder, long, max_length=200), alone)
    with pytest.raises(TruncationError, match="11 of the texts"):
        scored(folder, long, max_length=200, truncate="error")
    with pytest.raises(InputError, match=r"max_length=40 leaves no room beside \d+ special tokens"):
        scored(folder, max_length=40)


def test_a_query_that_is_too_long_leaves_room_for_the_document(folder_of):
    folder, asked = folder_of("causal"), "which of them? " * 90
    scores = scored(folder, [(asked, "the cat sat on a mat"), (asked, "prices rose again in May")])
    assert scores[0] != scores[1]


def test_8_bits_are_near(folder_of, tmp_path):
    texts = read_texts(None)
    calibration = Calibration(texts=[*texts[:60], *texts[-60:]], count=40)
    folder, gate = folder_of("causal"), QualityGate(min_cosine=0.9, kendall_tau=0.9)
    artefact = build_here(folder, tmp_path / "int8", backend="native", calibration=calibration, gate=gate)
    exact = scored(folder)
    assert score_error_over_spread(exact, scored(artefact.folder, precision="int8")) <= MAX_ERROR_OVER_SPREAD
    mine = SpecOverrides(prompts={"instruction": "Find what contradicts the query"})
    other = scored(artefact.folder, precision="int8", spec=mine)
    assert score_error_over_spread(scored(folder, spec=mine), other) <= MAX_ERROR_OVER_SPREAD


def test_the_instruction_is_a_setting_and_part_of_the_fingerprint(folder_of, tmp_path):
    folder, mine = folder_of("causal"), "Find what contradicts the query"
    spec = SpecOverrides(prompts={"instruction": mine})
    logits = by_the_card(folder, instruction=mine)
    assert near(scored(folder, spec=spec), (logits[:, 0] - logits[:, 1]).numpy())
    said = with_modules(
        write_reranker(tmp_path / "judge"),
        answers=dict(zip(("true_token_id", "false_token_id"), answers_of(folder), strict=True)),
        prompts={"contradiction": mine},
        default_prompt_name="contradiction",
    )
    assert near(scored(said), by_sentence_transformers(said))
    found = []
    for place, words in ((folder, None), (folder, spec), (said, None)):
        with Reranker(place, backend="native", precision="fp32", spec=words) as reranker:
            found.append((reranker.fingerprint, dict(reranker.info.prompts)))
    assert [prompts for _, prompts in found] == [{"instruction": text} for text in (QWEN3_INSTRUCTION, mine, mine)]
    assert found[0][0] != found[1][0] == found[2][0]


@pytest.mark.parametrize("second", [True, False])
def test_the_folders_own_answers_are_taken(second, folder_of, tmp_path):
    folder = write_reranker(tmp_path / "judge")
    yes, no = answers_of(folder)
    answers = {"true_token_id": no, "false_token_id": yes if second else None}
    with_modules(folder, answers=answers, activation_fn="torch.nn.modules.linear.Identity")
    found = scored(folder)
    assert near(found, by_sentence_transformers(folder))
    assert near(found, -scored(folder_of("causal"))) == second


def test_a_folder_without_a_word_is_known_by_its_name_or_by_the_users_word(folder_of, tmp_path):
    named = write_reranker(tmp_path / "Qwen3-Reranker-0.6B")
    other = write_reranker(tmp_path / "other")
    for folder in (named, other):
        (folder / "tokenizer_config.json").write_text('{"chat_template": "{% for m in messages %}{{ m }}{% endfor %}"}')
    exact = scored(folder_of("causal"))
    np.testing.assert_array_equal(scored(named), exact)
    np.testing.assert_array_equal(scored(other, spec=SpecOverrides(prompts={"instruction": QWEN3_INSTRUCTION})), exact)
    for opening in (Reranker, Encoder):
        with pytest.raises(SpecError, match=r"config\.json: architectures: .*pooling=.*prompts=\{\"instruction\""):
            opening(other, backend="native")
    with Encoder(other, backend="native", precision="fp32", spec=SpecOverrides(pooling="lasttoken")) as encoder:
        assert encoder.encode(["one"]).shape == (1, 96)


def test_an_encoder_has_no_use_for_it(folder_of):
    with pytest.raises(SpecError, match=r"is a cross-encoder.*nimbed\.Reranker"):
        Encoder(folder_of("causal"), backend="native")


@pytest.mark.parametrize("backend", ["openvino", "torch"])
@pytest.mark.parametrize("kind", ["causal", "classifier"])
def test_engines_that_know_no_template_refuse_it(kind, backend, folder_of):
    with pytest.raises(SpecError, match=rf"behind the last token of a template, which the {backend} engine does not"):
        Reranker(folder_of(kind), backend=backend)


@pytest.mark.parametrize("prompts", [{"query": "q: "}, {"instruction": "one", "document": "d"}])
def test_other_prompts_are_refused(prompts, folder_of):
    with pytest.raises(InputError, match=r"a cross-encoder has no '(query|document)'; this one has only instruction"):
        Reranker(folder_of("causal"), spec=SpecOverrides(prompts=prompts))


def test_tables_that_should_be_one_and_are_not_are_refused(tmp_path):
    folder = write_reranker(tmp_path / "judge", tied=False)
    change(folder, tie_word_embeddings=True)
    with pytest.raises(SpecError, match=r"config\.json: tie_word_embeddings: true, but lm_head\.weight and embed"):
        scored(folder)
    tensors = tensors_of(folder)
    same = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}
    assert np.isfinite(scored(save(folder, same))).all()
    del same["lm_head.weight"]
    with pytest.raises(SpecError, match=r"model\.safetensors lacks .*lm_head\.weight"):
        scored(change(save(folder, same), tie_word_embeddings=False))
