from __future__ import annotations

import json

import pytest
from tests.support.described import change, described, families, fields_of, written
from tests.support.rotary_families import FAMILIES

from nimbed._model_folder.max_length import max_length_of, positions_of
from nimbed.errors import SpecError
from nimbed.spec import read_spec

SETTINGS = "sentence_bert_config.json"
KEYS = ("max_position_embeddings", "n_positions")


def asking(folder, tokens):
    """The folder, which asks for texts so long."""
    (folder / SETTINGS).write_text(json.dumps({"max_seq_length": tokens}))
    return folder


@pytest.mark.parametrize("said", [{}, dict.fromkeys(KEYS), {"max_position_embeddings": 99, "n_positions": 98}])
@pytest.mark.parametrize("family", [name for name in families() if not FAMILIES[name].scores])
def test_never_above_the_networks_positions_whoever_says_them(family, said, tmp_path):
    folder = asking(change(written(family, tmp_path), *(key for key in KEYS if key not in said), **said), 200_000)
    spec, network = read_spec(folder), described(folder)
    assert spec.max_length == spec.positions
    # jina-v3 in its authors' form counts positions from 0, and its tokenizer as XLM-RoBERTa's.
    assert network.max_length - 2 * (family == "jina-v3-remote") == spec.max_length
    assert SETTINGS in spec.origins["max_length"]


@pytest.mark.parametrize(
    ("family", "positions"),
    [("bert", 512), ("xlm-roberta", 510), ("modernbert", 8192), ("nomic-bert", 2048), ("nomic-bert-remote", 1024),
     ("gte", 8192), ("gte-new", 2048), ("jina-v3", 8194)],
)  # fmt: skip
def test_what_counts_where_the_config_is_silent_is_named(family, positions, tmp_path):
    folder = asking(change(written(family, tmp_path), *KEYS), 200_000)
    key = "n_positions" if family == "nomic-bert-remote" else "max_position_embeddings"
    wanted = f"the network's own: config.json has no {key} (below {SETTINGS}: max_seq_length)"
    assert max_length_of(folder, fields_of(folder)) == (positions, wanted)
    assert max_length_of(asking(folder, 20), fields_of(folder)) == (20, f"{SETTINGS}: max_seq_length")


def test_a_folder_that_says_nothing_at_all_is_refused(tmp_path):
    folder = change(written("modernbert", tmp_path), *KEYS)
    for name in (SETTINGS, "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(SpecError, match="no max_seq_length, model_max_length or max_position_embeddings"):
        max_length_of(folder, fields_of(folder))


def test_a_network_that_is_not_known_may_have_no_limit(tmp_path):
    folder = change(written("bert", tmp_path), *KEYS, model_type="xlnet")
    assert positions_of(fields_of(folder)) is None
    assert positions_of(fields_of(change(folder, n_positions=77))) == 77
    assert positions_of(fields_of(change(folder, max_position_embeddings=-1))) is None
