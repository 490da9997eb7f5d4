"""Who takes part: settings as they are, or every engine for a lone model."""

from __future__ import annotations

import sys

import pytest
from tests.support.contenders import Odd

from nimbed.bench import own_contenders
from nimbed.errors import InputError
from nimbed.evaluate import Setting


def test_a_lone_model_stands_for_the_engines_here(tiny_folder):
    labels = [contender.label for contender in own_contenders([str(tiny_folder)])]
    assert labels[-2:] == ["openvino fp32", "torch fp32"]
    assert own_contenders([f"{tiny_folder}@backend=fake"])[0].label.endswith("@backend=fake")


def test_an_engine_that_is_not_installed_takes_no_part(tiny_folder, monkeypatch):
    for package in ("openvino", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    assert {contender.backend for contender in own_contenders([str(tiny_folder)])} == {"native"}


def test_several_settings_are_taken_as_they_are_in_their_order():
    odd, named = Odd(label="odd"), Setting(model="m", name="named")
    assert own_contenders([odd, "m@dim=8", named]) == [odd, Setting(model="m", name="m@dim=8", dim=8), named]
    assert own_contenders([Setting(model="m")]) == [Setting(model="m")]


def test_a_lone_artefact_is_one_contender(tmp_path):
    (tmp_path / "nimbed.json").write_text("{}")
    assert own_contenders([str(tmp_path)]) == [Setting(model=str(tmp_path))]


def test_equal_labels_and_nobody_are_refused():
    with pytest.raises(InputError, match="two settings are called 'a'"):
        own_contenders([Odd(label="a"), "m@name=a"])
    with pytest.raises(InputError, match="no setting"):
        own_contenders([])
