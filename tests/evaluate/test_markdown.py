"""Tables are what Markdown readers take for tables."""

from __future__ import annotations

from nimbed.evaluate.markdown import cell, table


def test_a_table_has_a_header_a_rule_and_its_rows():
    assert table(("set", "value"), [("a", "1"), ("b", "")]) == "| set | value |\n| --- | --- |\n| a | 1 |\n| b |  |"


def test_a_table_without_rows_is_its_header():
    assert table(("only",), iter(())) == "| only |\n| --- |"


def test_what_separates_cells_is_escaped_in_a_cell():
    assert cell("a|b||c") == "a\\|b\\|\\|c"
    assert cell("plain_*text*") == "plain_*text*"
