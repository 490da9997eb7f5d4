"""`nimbed cache`, as a person runs it."""

from __future__ import annotations

import json
import re

import pytest
from tests.support.artefacts import made, rewrite

from nimbed._loading.manifest import FORMAT
from nimbed._loading.target_lock import target_lock
from nimbed.cli import main

GOOD, OLD = "some--model-openvino-int8-0123456789abcdef", "old-native-int8-fedcba9876543210"


@pytest.fixture(autouse=True)
def artefacts(tmp_path, monkeypatch):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "artefacts"
    for name in (GOOD, OLD):
        (folder / name).mkdir(parents=True)
        made(folder / name)
    rewrite(folder / OLD, format=FORMAT - 1)
    return folder


def there(folder):
    return {path.name for path in folder.iterdir()}


def test_list(artefacts, capsys):
    assert main(["cache", "list"]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"some/model@abc +openvino +int8 +{FORMAT} .* opens\n", said)
    assert f"format {FORMAT - 1} is older than this nimbed reads ({FORMAT})\n" in said
    assert f"{artefacts.parent}: 2 artefacts and what belongs to them, 0 tuning profiles" in said
    assert "nimbed cache prune frees 0.0 MB" in said
    assert there(artefacts) == {GOOD, OLD}


def test_list_as_json(artefacts, capsys):
    assert main(["cache", "list", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["place"] == str(artefacts.parent)
    assert read["bytes"] == sum(entry["bytes"] for entry in read["entries"])
    by_path = {entry["path"]: entry for entry in read["entries"]}
    assert by_path[str(artefacts / GOOD)]["fault"] == ""
    assert by_path[str(artefacts / OLD)]["useless"] is True


def test_an_empty_place(artefacts, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NIMBED_HOME", str(tmp_path / "nowhere"))
    for command in (["list"], ["prune"], ["prune", "--all"], ["list", "--json"]):
        assert main(["cache", *command]) == 0
    assert not (tmp_path / "nowhere").exists()


def test_prune_removes_what_is_of_no_use(artefacts, capsys):
    assert main(["cache", "prune"]) == 0
    said = capsys.readouterr().out
    assert f"removed {artefacts / OLD}: 0.0 MB, nimbed.json: format {FORMAT - 1} is older" in said
    assert said.endswith("0.0 MB freed\n")
    assert there(artefacts) == {GOOD}


def test_a_link_that_leads_nowhere_is_told_and_removed(artefacts, capsys):
    link = artefacts / "some--other-native-int8-0123456789abcdef"
    link.symlink_to(artefacts / "moved")
    assert main(["cache", "list"]) == 0
    assert "it is a link that leads nowhere" in capsys.readouterr().out
    assert main(["cache", "prune"]) == 0
    assert there(artefacts) == {GOOD}


def test_a_dry_run_removes_nothing(artefacts, capsys):
    assert main(["cache", "prune", "--all", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("would remove") == 2
    assert "would be freed" in said
    assert there(artefacts) == {GOOD, OLD}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--all"], set()),
        (["--model", "model"], set()),
        (["--model", "other/model"], {GOOD, OLD}),
        (["--older-than", "30"], {GOOD}),
        (["--older-than", "0"], set()),
    ],
)
def test_what_is_chosen_is_removed(options, left, artefacts):
    assert main(["cache", "prune", *options]) == 0
    assert there(artefacts) == left


def test_what_is_being_built_is_left(artefacts, capsys):
    with target_lock(artefacts / GOOD):
        assert main(["cache", "prune", "--all"]) == 0
    assert f"left {artefacts / GOOD}: it is being built" in capsys.readouterr().out
    assert there(artefacts) == {GOOD}


def test_a_name_with_codes_for_the_terminal_is_shown_as_one(artefacts, capsys):
    (artefacts / "\x1b[2J-native-int8-0123456789abcdef").mkdir()
    assert main(["cache", "list"]) == 0
    assert main(["cache", "prune"]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\\x1b[2J" in said


@pytest.mark.parametrize("days", ["-1", "nan", "soon"])
def test_what_is_no_number_of_days(days, capsys):
    with pytest.raises(SystemExit):
        main(["cache", "prune", "--older-than", days])
    assert "--older-than" in capsys.readouterr().err
