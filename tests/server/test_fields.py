"""JSON, field by field."""

from __future__ import annotations

import gc

import pytest

from nimbed.server import fields
from nimbed.server.errors import ApiError
from nimbed.server.fields import Fields, is_ids, is_texts, parse


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff\xfe", b"[" * 2000])
def test_what_is_not_json(body):
    with pytest.raises(ApiError) as caught:
        parse(body, 100)
    assert caught.value.kind == "syntax"
    assert ("half of a surrogate pair" in caught.value.message) == (b"ud800" in body)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"text"'])
def test_what_is_no_object(body):
    with pytest.raises(ApiError, match="JSON object"):
        parse(body, 100)


def test_a_body_of_too_many_values_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(fields, "_MAX_VALUES", 5)
    assert parse(b'{"a": [1, 2, 3]}', 100).any("a") == [1, 2, 3]
    for body in (b'{"a": [1, 2, 3, 4, 5]}', b'{"a": [[],[],[]]}', b"[" * 10):
        with pytest.raises(ApiError, match="more than 5 values, lists and objects"):
            parse(body, 100)


def test_the_collector_does_not_look_at_what_a_large_body_makes(monkeypatch):
    seen = []
    monkeypatch.setattr(fields.orjson, "loads", lambda _: seen.append(gc.isenabled()) or {})
    parse(b"x" * 100_000, 100)
    parse(b"x", 100)
    assert (seen, gc.isenabled()) == ([False, True], True)


def test_null_is_as_good_as_absent():
    given = Fields({"a": None}, 100)
    assert "a" not in given
    assert given.name("a") is None
    assert given.whole("a") is None
    assert given.flag("a", default=True) is True
    assert given.choice("a", ("x",), "x") == "x"


@pytest.mark.parametrize(
    ("read", "value"),
    [
        ("text", 1), ("text", None), ("name", ["a"]), ("whole", 0), ("whole", 1.5), ("whole", True), ("whole", "1"),
        ("texts", "a"), ("texts", ["a", None]), ("texts", None), ("inner", [1]), ("texts", []),
    ],
)  # fmt: skip
def test_wrong_types_are_refused_by_name(read, value):
    with pytest.raises(ApiError, match=r"outer\.field") as caught:
        getattr(Fields({"field": value}, 100, "outer."), read)("field")
    assert caught.value.param == "field"


def test_a_flag_and_a_choice_are_what_they_say():
    with pytest.raises(ApiError, match="true or false"):
        Fields({"a": 1}, 100).flag("a", default=True)
    with pytest.raises(ApiError, match="one of x, y"):
        Fields({"a": {}}, 100).choice("a", ("x", "y"), "x")


def test_long_texts_are_named_by_their_place():
    with pytest.raises(ApiError, match="item 1 of texts has 101 characters"):
        Fields({"texts": ["a", "x" * 101]}, 100).texts("texts")


def test_kinds_of_lists():
    assert is_texts([])
    assert is_texts(["a"])
    assert not is_texts("a")
    assert is_ids([1, 2])
    assert not is_ids([])
    assert not is_ids([1, True])
    assert not is_ids([1.0])
