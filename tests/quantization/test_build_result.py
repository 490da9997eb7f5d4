"""The judgement of a build: which figures, what is missed, and what force does."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from nimbed.errors import InputError, QualityError
from nimbed.quantization import QualityGate
from nimbed.quantization.build_result import judged, long_texts, measured_by


def test_the_gate_names_what_it_misses():
    gate = QualityGate(min_cosine=0.9)
    measured = {**asdict(gate), "texts": 5}
    assert gate.failures(measured) == {}
    assert gate.failures({**measured, "min_cosine": 0.89}) == {"min_cosine": 0.9}
    for value in (1.1, -0.1, "high", True, float("nan")):
        with pytest.raises(InputError, match=r"top10_agreement=.*from 0 to 1"):
            QualityGate(top10_agreement=value)


def request(*, task="embedding", force=False, **gate):
    return SimpleNamespace(name="a model", spec=SimpleNamespace(task=task), gate=QualityGate(**gate), force=force)


def test_vectors_and_scores_have_figures_of_their_own():
    vectors = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    assert "mean_cosine" in measured_by(request(), vectors, vectors)
    assert measured_by(request(task="scoring"), vectors[:, :1], vectors[:, :1])["kendall_tau"] == 1


@pytest.mark.parametrize(("longest", "said"), [(512, {}), (4096, {"long_texts": [513, 2048]})])
def test_how_long_the_long_texts_are_is_said_where_there_can_be_any(longest, said):
    held_out = [np.zeros(tokens, np.int32) for tokens in (3, 2048, 512, 513)]
    request = SimpleNamespace(engine="native", spec=SimpleNamespace(max_length=longest))
    assert long_texts(request, held_out) == said


GOOD = {"texts": 8, "mean_cosine": 1.0, "min_cosine": 1.0, "top10_agreement": 1.0, "rank_correlation": 1.0}


def test_what_passes_has_its_thresholds_beside_it():
    verdict = judged(request(mean_cosine=0.9), GOOD)
    assert verdict["missed"] == []
    assert verdict["thresholds"]["mean_cosine"] == 0.9
    assert GOOD.items() <= verdict.items()


def test_what_misses_is_refused_with_figures_and_remedies():
    with pytest.raises(QualityError, match=r"int8 of a model .*mean_cosine 0\.5000 \(at least 0\.99\)") as caught:
        judged(request(mean_cosine=0.99), {**GOOD, "mean_cosine": 0.5})
    for remedy in ("8 held-out texts", "Nothing was published", 'precision="fp32"', "--force"):
        assert remedy in str(caught.value)
    with pytest.raises(QualityError, match="with 2 operations back in fp32"):
        judged(request(), {**GOOD, "mean_cosine": 0.5}, {"fp32_layers": ["a", "b"]})


def test_force_publishes_and_says_what_was_missed():
    verdict = judged(request(force=True), {**GOOD, "min_cosine": 0.1})
    assert verdict["missed"] == ["min_cosine"]
