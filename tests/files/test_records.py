"""Records from JSON: back as they were, and refused by the field that is wrong."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import pytest

from nimbed._files.records import record_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Layer:
    name: str
    bias: bool = True


class Figures(TypedDict):
    mean: float


@dataclass(frozen=True)
class Model:
    kind: Literal["dense", "sparse"]
    dim: int
    layers: tuple[Layer, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    figures: Figures | None = None
    more: Any = None


NAMES = {"Layer": Layer, "Figures": Figures}
WHOLE = Model(
    kind="dense",
    dim=3,
    layers=(Layer("a"), Layer("b", bias=False)),
    prompts={"query": "q: "},
    figures={"mean": 0.5},
    more=[1, {"x": None}],
)


def read(**changes: object) -> Model:
    return record_of(Model, {**json.loads(json.dumps(asdict(WHOLE))), **changes}, NAMES)


def test_a_record_comes_back_as_it_was():
    assert read() == WHOLE
    assert record_of(Model, {"kind": "sparse", "dim": 1}, NAMES) == Model("sparse", 1)


def test_a_report_may_have_more_than_is_read_of_it():
    assert read(figures={"mean": 1, "texts": 5}).figures == {"mean": 1, "texts": 5}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dim": "3"}, "dim is '3', not int"),
        ({"dim": True}, "dim is 'True', not int"),
        ({"dim": 3.0}, "dim is '3.0', not int"),
        ({"kind": "both"}, "kind is 'both', not 'dense' or 'sparse'"),
        ({"layers": {}}, "layers is '{}', not list"),
        ({"layers": [{"name": "a"}, {"name": 1}]}, r"layers\[1\]\.name is '1', not str"),
        ({"layers": [{}]}, r"layers\[0\]\.name is missing"),
        ({"layers": [{"name": "a", "wide": 1}]}, r"layers\[0\]\.wide is nothing that belongs there"),
        ({"prompts": {"query": 7}}, r"prompts\.query is '7', not str"),
        ({"figures": {}}, r"figures\.mean is missing"),
        ({"figures": {"mean": float("nan")}}, r"figures\.mean is 'nan', not float"),
        ({"figures": {"mean": float("inf")}}, r"figures\.mean is 'inf', not float"),
        ({"unknown": 1}, "^unknown is nothing that belongs there"),
    ],
)
def test_what_is_wrong_is_named(changes, says):
    with pytest.raises(ValueError, match=says):
        read(**changes)


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_what_is_no_object_is_no_record(values):
    with pytest.raises(ValueError, match="not dict"):
        record_of(Model, values, NAMES)
    with pytest.raises(ValueError, match=r"spec is .*, not dict"):
        record_of(Model, values, NAMES, "spec")


def test_a_value_is_shown_in_brief():
    with pytest.raises(ValueError, match="dim is") as caught:
        read(dim="x" * 10_000)
    assert len(str(caught.value)) < 100
