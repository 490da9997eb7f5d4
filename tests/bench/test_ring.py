"""Everyone takes turns, and one's failure is one's own."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from tests.support.contenders import Recording, make_network, make_ring

from nimbed.bench.operations import Operations


def test_contenders_alternate_and_the_warm_round_does_not_count():
    ring, order = make_ring(rounds=2), []

    def measure(label):
        order.append(label)
        return {"": float(len(order))}

    ring.turns("p", "c", {n: (lambda n=n: measure(n)) for n in "ab"}, units={"": "ms"})
    assert order == list("ababab")
    assert {figure.contender: figure.values for figure in ring.figures} == {"a": [3, 5], "b": [4, 6]}


def test_without_a_warm_round_every_value_counts():
    ring = make_ring(rounds=2)
    values = iter([7.0, 8.0])
    ring.turns("p", "c", {"a": lambda: {"": next(values)}}, units={"": "s"}, warm=False)
    (figure,) = ring.figures
    assert (figure.part, figure.case, figure.unit, figure.values) == ("p", "c", "s", [7, 8])


def test_several_values_have_a_figure_each():
    ring = make_ring(rounds=1)
    ring.turns("p", "c,", {"a": lambda: {"x": 1.0, "y": 2.0}}, units={"x": "s", "y": "MB"})
    assert [(f.case, f.unit, f.values) for f in ring.figures] == [("c, x", "s", [1]), ("c, y", "MB", [2])]


@pytest.mark.parametrize("fails_at", [0, 1, 2])
def test_who_fails_once_is_left_out_from_then_on_and_said(fails_at):
    ring, calls = make_ring(rounds=2), []

    def failing():
        calls.append(1)
        if len(calls) > fails_at:
            raise ValueError("no")
        return {"": 1.0}

    ring.turns("p", "c", {"bad": failing, "good": lambda: {"": 2.0}}, units={"": "ms"})
    assert ring.failed == {"p, c, bad": "ValueError: no"}
    assert len(calls) == fails_at + 1
    assert [(figure.contender, figure.values) for figure in ring.figures] == [("good", [2, 2])]


def test_a_value_that_is_not_told_is_no_figure():
    ring = make_ring(rounds=1)
    ring.turns("p", "c", {"a": lambda: {"x": 1.0}}, units={"x": "s", "y": "MB"})
    assert [figure.case for figure in ring.figures] == ["c x"]
    assert ring.failed == {}


def test_an_interrupt_ends_the_run():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_ring().turns("p", "c", {"a": interrupted}, units={"": "ms"})


def test_tokens_and_operations_are_those_of_a_text_on_average():
    ring = make_ring(rounds=1, network=make_network(operations=Operations(linear=10, quadratic=1)))
    ring.turns("p", "counted", {"a": lambda: {"": 1.0}}, units={"": "ms"}, lengths=[2, 4])
    ring.turns("p", "not", {"a": lambda: {"": 1.0}}, units={"": "ms"})
    assert [(f.tokens, f.operations) for f in ring.figures] == [(3, (10 * 6 + 20) / 2), (None, None)]


def test_a_network_that_cannot_be_counted_has_tokens_alone():
    ring = make_ring(rounds=1)
    ring.turns("p", "c", {"a": lambda: {"": 1.0}}, units={"": "ms"}, lengths=[2, 4])
    assert [(f.tokens, f.operations) for f in ring.figures] == [(3, None)]


def test_everyone_is_open_at_once_and_closed_even_if_one_cannot_be():
    events = []

    class Telling(Recording):
        @contextmanager
        def open(self, max_length):
            if self.label == "broken":
                raise ValueError("cannot be opened")
            events.append(f"open {self.label} {max_length}")
            yield self
            events.append(f"close {self.label}")

    with make_ring(Telling("a"), Telling("b")).opened(9) as everyone:
        assert list(everyone) == ["a", "b"]
        events.append("both")
    assert events == ["open a 9", "open b 9", "both", "close b", "close a"]
    with pytest.raises(ValueError, match="cannot be opened"), make_ring(Telling("a"), Telling("broken")).opened(9):
        pass
