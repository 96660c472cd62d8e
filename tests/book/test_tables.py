"""Cells of tables: numbers as they should be read, words escaped."""

import math

import pytest

from vtg_lib.book import tables


@pytest.mark.parametrize(
    ("value", "text"),
    [(54.3, "54.30"), (0.0001, "0.0001"), (0.035, "0.035"), (0.0, "0.00"), (-1.25, "-1.25"), (None, "–")],
)
def test_a_printed_number_has_the_decimals_that_it_needs(value, text):
    assert tables.printed(value) == text


def test_our_numbers_have_two_decimals_and_a_spread_where_there_is_one():
    assert tables.with_sd(31.0, 1.25) == "31.00 ± 1.25" and tables.with_sd(31.0, None) == "31.00"
    assert tables.number(math.nan) == "–" and tables.number(7) == "7" and tables.number(0.5, 1) == "0.5"


def test_words_are_escaped_once_and_backticks_are_code():
    assert tables.code("`a<b` & c") == "<code>a&lt;b</code> &amp; c"
    shown = tables.template("<p>\n  {{ text|code }}\n</p>").render(text="`<i>` & d")
    assert shown == "<p><code>&lt;i&gt;</code> &amp; d</p>"
