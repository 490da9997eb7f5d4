"""A record becomes a row, or says why not."""

from __future__ import annotations

import pytest

from nimbed._files.lines import Position
from nimbed._text.rows import BadRow, Columns, Fault, Row, place_of
from nimbed.errors import InputError


@pytest.mark.parametrize(
    ("columns", "values", "made"),
    [
        (Columns(), {"text": "a"}, ("a", None)),
        (Columns(id="n"), {"text": "", "n": 7}, ("", "7")),
        (Columns(text=("t", "b"), id="n"), {"t": "T", "b": "B", "n": "x"}, ("T\nB", "x")),
        (Columns(text=("t", "b")), {"t": None, "b": "B"}, ("B", None)),
        (Columns(text=("t", "b"), template="{t}: {b}{{}}"), {"t": "T", "b": "B"}, ("T: B{}", None)),
        (Columns(text=("b",), template="passage: {b}"), {"b": "B"}, ("passage: B", None)),
    ],
)
def test_fields_make_a_text_and_an_id(columns, values, made):
    assert columns.reader()(values) == made
    assert set(columns.wanted) <= set(values)


@pytest.mark.parametrize(
    ("columns", "values", "kind"),
    [
        (Columns(), {"body": "a"}, "missing field"),
        (Columns(), ["a"], "not an object"),
        (Columns(), {"text": None}, "not a string"),
        (Columns(text=("t", "b")), {"t": "T", "b": 3}, "not a string"),
        (Columns(text=("t", "b")), {"t": None, "b": ""}, "no text"),
        (Columns(id="n"), {"text": "a", "n": 1.5}, "no id"),
        (Columns(id="n"), {"text": "a", "n": True}, "no id"),
    ],
)
def test_what_makes_no_row_says_why(columns, values, kind):
    with pytest.raises(Fault) as caught:
        columns.reader()(values)
    assert caught.value.kind == kind
    assert caught.value.reason


@pytest.mark.parametrize("template", ["{t", "{}", "{t.upper}", "{t!r}", "{t:>9}", "{other}", "no field"])
def test_a_template_has_names_alone(template):
    with pytest.raises(InputError, match="template="):
        Columns(text=("t",), template=template)


def test_no_field_is_refused():
    with pytest.raises(InputError, match="names no field"):
        Columns(text=())


def test_a_row_is_named_by_its_place():
    assert place_of(Row("a", None, "in.parquet", 3, Position(3, 3))) == "in.parquet, row 3"
    bad = BadRow("not JSON", "no JSON", "in.jsonl", 2, Position(9, 2))
    assert str(bad.error()) == "in.jsonl, line 2: no JSON"
