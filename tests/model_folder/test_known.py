"""Networks that are known by their settings. (What follows from it: test_task_adapters.py, test_spec_refused.py.)"""

from __future__ import annotations

from nimbed._files.json import Fields
from nimbed._model_folder.known import knows


def test_a_network_of_nobodys_is_not_known():
    assert not knows(Fields({"model_type": "my_own_network"}, "config.json"))
