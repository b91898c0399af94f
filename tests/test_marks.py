"""Made text goes between two marks, and nothing else of a page changes."""

import pytest

from helpers.course import marks


def test_only_what_stands_between_the_marks_changes():
    page = "by hand <b> old <b> older <e> by hand, too <e>\n"
    assert marks.fill(page, "<b>", "<e>", "\nnew\n", name="page") == "by hand <b>\nnew\n<e> by hand, too <e>\n"


@pytest.mark.parametrize("page", ["", "<b> old", "old <e>", "<e> old <b>"])
def test_without_both_marks_in_order_nothing_is_written(page):
    with pytest.raises(
        ValueError, match=r"^CARD\.md: received no two marks .* allowed: a line <b> and, after it, a line <e>$"
    ):
        marks.fill(page, "<b>", "<e>", "new", name="CARD.md")
