"""Which products round their inputs twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbed.backends.native_layout import PRODUCTS
from nimbed.quantization.native.second_pass import choose, neighbours, sizes_of, with_passes

SETTINGS = {"layers": [{product: {"group": 64, "passes": 1} for product in PRODUCTS} for _ in range(3)]}
SHAPES = {
    f"layers.{n}.{product}.weights": (2, 2, 16, 32, 4) if product != "up" else (8, 2, 16, 32, 4)
    for n in range(3)
    for product in PRODUCTS
}
SIZES = sizes_of(SETTINGS, SHAPES)


def errors(by_product, common=0.0):
    """An error of which each product has its part until it rounds twice."""

    def error(settings):
        return common + sum(
            by_product.get(f"layers.{n}.{product}", 0.0)
            for n, layer in enumerate(settings["layers"])
            for product in PRODUCTS
            if layer[product]["passes"] == 1
        )

    return error


def test_sizes_are_the_numbers_of_weights():
    assert SIZES["layers.0.down"] == 2 * 16 * 64 * 4
    assert SIZES["layers.2.up"] == 8 * 16 * 64 * 4
    assert len(SIZES) == 12


def test_nothing_is_done_where_the_error_is_small():
    made = choose(SETTINGS, SIZES, errors({"layers.0.up": 1e-4}), target=2e-4, budget=1)
    assert (made.products, made.multiplications, made.settings) == ((), 1.0, SETTINGS)


def test_what_products_add_is_measured_on_few_texts_and_the_sum_on_all():
    asked = {"all": 0, "few": 0}

    def counted(which, error):
        def run(settings):
            asked[which] += 1
            return error(settings)

        return run

    hurting = {"layers.1.down": 9e-4, "layers.0.up": 1e-4}
    all_, few = errors(hurting), errors({name: 2 * part for name, part in hurting.items()}, common=-1e-4)
    made = choose(SETTINGS, SIZES, counted("all", all_), target=2e-4, budget=1, quick=counted("few", few))
    assert made.products == ("layers.1.down",)
    assert made.error == pytest.approx((1e-3, 1e-4))
    assert asked == {"all": 2, "few": 1 + len(SIZES) + 1 + 1}


def test_no_more_round_twice_than_have_to_though_few_texts_show_a_larger_error():
    """The error on few texts is three times that on all, and stays so: what it becomes smaller by is what counts."""
    error = errors({f"layers.{n}.output": 1e-4 * (1 + n) for n in range(3)} | {"layers.0.up": 1e-5})
    made = choose(SETTINGS, SIZES, error, target=3e-4, budget=1, quick=lambda settings: 3 * error(settings))
    assert made.products == ("layers.2.output", "layers.1.output")
    assert made.error == pytest.approx((6.1e-4, 1.1e-4))


def test_more_round_twice_where_few_texts_show_too_small_an_error():
    hurting = {f"layers.{n}.{product}": 1e-4 for n in range(3) for product in ("output", "down")}
    error = errors(hurting)
    made = choose(SETTINGS, SIZES, error, target=1.5e-4, budget=1, quick=lambda settings: error(settings) ** 2)
    assert len(made.products) in {5, 6}
    assert made.error[1] <= 1.5e-4


def test_the_product_that_hurts_is_found_and_costs_what_it_has():
    made = choose(SETTINGS, SIZES, errors({"layers.1.down": 9e-4, "layers.0.up": 1e-4}), target=2e-4, budget=1)
    assert made.products == ("layers.1.down",)
    assert made.error == pytest.approx((1e-3, 1e-4))
    assert made.multiplications == pytest.approx(1 + SIZES["layers.1.down"] / sum(SIZES.values()))
    assert made.settings["layers"][1]["down"]["passes"] == 2
    assert SETTINGS["layers"][1]["down"]["passes"] == 1


def test_products_are_found_whose_errors_hide_each_other():
    add = errors({"layers.0.down": 5e-3, "layers.2.output": 4e-3, "layers.1.up": 1e-4})
    made = choose(SETTINGS, SIZES, lambda settings: min(add(settings), 1e-3), target=2e-4, budget=1)
    assert made.products == ("layers.0.down", "layers.2.output")
    assert made.error == pytest.approx((1e-3, 1e-4))


def test_where_something_has_to_be_done_it_goes_on_to_the_aim():
    error = errors({"layers.0.down": 5e-3, "layers.2.output": 2e-4, "layers.1.up": 1e-5})
    made = choose(SETTINGS, SIZES, error, target=3e-4, aim=1e-4, budget=1)
    assert made.products == ("layers.0.down", "layers.2.output")
    assert choose(SETTINGS, SIZES, error, target=6e-3, aim=1e-4, budget=1).products == ()


def test_nothing_is_done_where_it_would_not_help():
    """Alone each looks as if it did, and then all together do not."""

    def error(settings):
        twice = sum(layer[product]["passes"] == 2 for layer in settings["layers"] for product in PRODUCTS)
        return 1e-3 if twice < len(SIZES) else 0.0

    made = choose(SETTINGS, SIZES, error, target=2e-4, budget=0.5)
    assert (made.products, made.error, made.settings) == ((), (1e-3, 1e-3), SETTINGS)


@given(st.integers(1, 80))
def test_neighbours_are_adjacent_layers_of_a_product_and_no_more_are_together_than_need_be(layers):
    names = [f"layers.{n}.{product}" for n in range(layers) for product in PRODUCTS]
    parts = neighbours(names)
    assert sorted(name for part in parts for name in part) == sorted(names)
    for part in parts:
        numbers = [int(name.split(".")[1]) for name in part]
        assert numbers == list(range(numbers[0], numbers[0] + len(part)))
        assert len({name.split(".")[2] for name in part}) == 1
    width = max(map(len, parts))
    assert len(parts) <= 48
    assert width == 1 or len(PRODUCTS) * layers > 48 * (width - 1)


@given(st.dictionaries(st.sampled_from(sorted(SIZES)), st.floats(-1e-4, 1e-3)), st.floats(0, 1), st.floats(0, 1e-3))
def test_the_budget_is_kept_and_the_error_is_as_measured(by_product, budget, target):
    error = errors(by_product, common=1e-5)
    made = choose(SETTINGS, SIZES, error, target=target, budget=budget)
    assert made.multiplications <= 1 + budget + 1e-9
    assert made.error[1] == pytest.approx(error(made.settings))
    assert made.error[1] <= made.error[0] + 1e-12
    assert made.settings == with_passes(SETTINGS, list(made.products))
