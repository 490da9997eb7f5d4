from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict

import pytest
from tests.support.described import described, written


def test_a_description_is_frozen_and_goes_into_json(tmp_path):
    network = described(written("modernbert", tmp_path))
    with pytest.raises(FrozenInstanceError):
        network.hidden = 1
    assert json.loads(json.dumps(asdict(network)))["attention"][1]["back"] == 8
