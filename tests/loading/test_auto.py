"""What ``auto`` takes, by what the CPU and the engine have."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from tests.support.model_folders import write

from nimbed import _machine
from nimbed._loading import auto
from nimbed._loading.candidate import find
from nimbed._loading.hub import Source
from nimbed._loading.settings import Settings
from nimbed.backends import BACKENDS, fake
from nimbed.errors import InputError, MissingExtraError


def on_a_cpu(monkeypatch, *features: str) -> None:
    monkeypatch.setattr(_machine, "cpu", lambda: _machine.Cpu(model="m", architecture="a", features=features))


@pytest.mark.parametrize(
    ("features", "precision", "says"),
    [
        (("avx512_vnni", "avx2"), "int8", "avx512_vnni multiplies int8 fast"),
        (("asimddp",), "int8", "asimddp multiplies int8 fast"),
        (("avx2",), "fp32", "no VNNI, AMX or dot-product instructions"),
        ((), "fp32", "no VNNI"),
    ],
)
def test_int8_is_for_cpus_that_multiply_it_without_overflow(features, precision, says, monkeypatch):
    on_a_cpu(monkeypatch, *features)
    chosen, reason = auto.for_this_cpu()
    assert chosen == precision
    assert says in reason


@pytest.mark.parametrize("features", [(), ("avx512_vnni",)])
def test_the_users_word_goes_before_the_cpu(features, monkeypatch):
    on_a_cpu(monkeypatch, *features)
    for precision in BACKENDS["openvino"].precisions:
        assert auto.choose_precision(precision, BACKENDS["openvino"]) == (precision, "set by the user")


def test_the_native_engine_takes_int8_on_every_cpu_and_fp32_where_it_was_refused(monkeypatch):
    on_a_cpu(monkeypatch)
    chosen, reason = auto.choose_precision("auto", BACKENDS["native"])
    assert chosen == "int8"
    assert "exact on every CPU" in reason
    assert auto.choose_precision("auto", BACKENDS["native"], "too far") == ("fp32", "too far")


def test_an_engine_that_is_built_for_asks_the_cpu_and_another_takes_fp32(monkeypatch):
    on_a_cpu(monkeypatch, "avx512_vnni")
    assert auto.choose_precision("auto", BACKENDS["openvino"])[0] == "int8"
    assert auto.choose_precision("auto", BACKENDS["torch"])[0] == "fp32"


def test_what_an_engine_has_not_is_refused_with_what_it_has():
    with pytest.raises(InputError, match=r'precision=\'bf16\': backend="native" has int8 and fp32$'):
        auto.choose_precision("bf16", BACKENDS["native"])


@pytest.fixture
def unknown():
    """Nothing is known yet of the native engine, neither before nor after."""
    auto.native_missing.cache_clear()
    yield
    auto.native_missing.cache_clear()


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize(
    ("module", "engine", "says"),
    [
        (None, "openvino", "it was not compiled when nimbed was installed"),
        (SimpleNamespace(kernels=lambda: "reference"), "openvino", "no instructions that it is fast with"),
        (SimpleNamespace(kernels=lambda: "avx2"), "native", "no padding"),
    ],
)
def test_the_native_engine_is_taken_where_it_is_compiled_and_fast(module, engine, says, monkeypatch):
    monkeypatch.setitem(sys.modules, "nimbed._native", module)
    chosen, reason = auto.choose_backend()
    assert chosen == engine
    assert says in reason
    assert "not installed" not in reason


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)


@pytest.mark.usefixtures("no_openvino")
@pytest.mark.parametrize("missing", [None, "it was not compiled"])
def test_the_reason_says_that_openvino_is_not_installed(missing, monkeypatch):
    monkeypatch.setattr(auto, "native_missing", lambda: missing)
    assert 'OpenVINO, which is not installed (pip install "nimbed[openvino]")' in auto.choose_backend()[1]


@pytest.mark.usefixtures("no_openvino")
@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        ({}, "quantize"),
        ({"precision": "fp32"}, "openvino"),
        ({"backend": "openvino"}, "quantize"),
        ({"source": Source(file="model.safetensors")}, "export"),
    ],
)
def test_without_openvino_the_error_names_the_extra_that_reads_what_the_model_has(
    settings, extra, tmp_path, monkeypatch
):
    monkeypatch.setattr(auto, "native_missing", lambda: "it was not compiled")
    config = {"model_type": "bert", "hidden_size": 8, "max_position_embeddings": 64}
    files = {"config.json": config, "tokenizer.json": fake.tokenizer().to_str(), "openvino_model.xml": "<net/>"}
    chosen = Settings(model=str(write(tmp_path / "all-MiniLM-L6-v2", files=files)), **settings)
    with pytest.raises(MissingExtraError, match=rf'pip install "nimbed\[{extra}\]"') as caught:
        auto.with_its_engine(find(chosen), chosen, lambda _: pytest.fail("attempted"))
    assert ("set by the user" if "backend" in settings else "it was not compiled") in str(caught.value)


@pytest.mark.usefixtures("no_openvino")
def test_a_network_that_no_engine_here_runs_says_why_and_what_would(tmp_path, monkeypatch):
    monkeypatch.setattr(auto, "native_missing", lambda: None)
    config = {"model_type": "unheard-of", "hidden_size": 8, "max_position_embeddings": 64}
    files = {"config.json": config, "tokenizer.json": fake.tokenizer().to_str(), "model.safetensors": "weights"}
    chosen = Settings(model=str(write(tmp_path / "all-MiniLM-L6-v2", files=files)))
    with pytest.raises(MissingExtraError, match=r"nimbed\[export\].*the native engine runs bert,.*not unheard-of"):
        auto.with_its_engine(find(chosen), chosen, lambda _: pytest.fail("attempted"))
