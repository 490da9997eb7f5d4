"""Settings are parsed strictly, and open what they say."""

from __future__ import annotations

import pytest

from nimbed.errors import InputError
from nimbed.evaluate import Setting
from nimbed.evaluate.settings import settings_of


@pytest.mark.parametrize(
    ("text", "model", "options"),
    [
        ("BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5", {}),
        ("C:\\models\\mini", "C:\\models\\mini", {}),
        ("C:\\a@b\\mini@dim=128,precision=int8", "C:\\a@b\\mini", {"dim": 128, "precision": "int8"}),
        ("/srv/me@home/mini", "/srv/me@home/mini", {}),
        ("org/m@revision=v1.0,file=onnx/model.onnx,max_length=256", "org/m", {"revision": "v1.0", "max_length": 256}),
        ("m@name=mine", "m", {"name": "mine"}),
    ],
)
def test_settings_are_parsed(text, model, options):
    setting = Setting.parse(text)
    assert setting.model == model
    assert {key: getattr(setting, key) for key in options} == options
    assert setting.label == options.get("name", text)


def test_a_folder_of_that_name_is_the_folder(tmp_path):
    folder = tmp_path / "mini@dim=128"
    folder.mkdir()
    assert Setting.parse(str(folder)) == Setting(model=str(folder))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("m@dims=3", "'dims' is not one of name, backend"),
        ("m@dim=3,dim=4", "dim comes twice"),
        ("m@dim=3,fp32", "'fp32' is not key=value"),
        ("m@dim=", "'dim=' is not key=value"),
        ("m@dim=x", "dim=x must be a whole number"),
        ("m@dim=0", "dim=0 must be a whole number"),
        ("m@precision=int4", "precision='int4' is not one of"),
        ("m@backend=onnx", "backend='onnx' is not one of"),
        (" ", "names no model"),
    ],
)
def test_bad_settings_are_refused(text, says):
    with pytest.raises(InputError, match=says):
        Setting.parse(text)


def test_a_bad_setting_is_named():
    with pytest.raises(InputError, match=r"setting 'm@dim=3,backend=onnx': backend='onnx'"):
        Setting.parse("m@dim=3,backend=onnx")


@pytest.mark.parametrize("text", ["m" * 5000, "a\0b"])
def test_what_no_path_can_be_is_a_model(text):
    assert Setting.parse(text) == Setting(model=text)


def test_settings_keep_their_order_and_what_is_no_text():
    class Own:
        label = "own"

    own, fixed = Own(), Setting(model="m", name="fixed")
    assert settings_of([own, "n@dim=3", fixed]) == [own, Setting(model="n", name="n@dim=3", dim=3), fixed]


def test_no_settings_and_equal_labels_are_refused():
    with pytest.raises(InputError, match="no setting to evaluate"):
        settings_of([])
    with pytest.raises(InputError, match=r"two settings are called 'a'; tell them apart with @name="):
        settings_of(["m@name=a", Setting(model="b"), Setting(model="n", name="a")])


def test_an_encoder_is_opened_as_the_setting_says():
    text = " ".join(["word"] * 50)
    with Setting.parse("any@backend=fake,dim=16,max_length=8").open(32) as encoder:
        assert encoder.encode([text]).shape == (1, 16)
        encoder.encode([text])
        assert (encoder.info.max_length, encoder.stats().truncated, encoder.stats().cache) == (8, 2, None)
    with Setting.parse("any@backend=fake").open(32) as encoder:
        assert encoder.info.max_length == 32
