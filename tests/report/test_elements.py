import json

import pytest
from pages import Page

from autoseg.report.elements import data, element, render, script, style


def test_text_and_attributes_are_escaped():
    content = element("p", '<b>"x" & y', title='"><script>alert(1)</script>')
    html = render(content)
    assert "<b>" not in html
    assert "<script>" not in html
    page = Page(html)
    assert page.texts == ['<b>"x" & y']
    assert page.tags == [("p", {"title": '"><script>alert(1)</script>'})]


def test_what_no_page_may_hold_is_replaced():
    assert render("a\x00b\x1bc\u202ed\ud800e\tf") == "a\ufffdb\ufffdc\ufffdd\ufffde\tf"


def test_attributes_may_be_true_missing_numbers_or_named_like_python():
    content = element("input", checked=True, disabled=False, id=None, class_="a", data_row=2.5)
    assert render(content) == '<input checked class="a" data-row="2.5">'


def test_an_attribute_without_content_is_kept():
    assert render(element("td", data_order="")) == "<td data-order></td>"


def test_children_may_be_lists_and_none():
    content = element("ul", [element("li", "a"), element("li", "b")], None, "c")
    assert render(content) == "<ul><li>a</li><li>b</li>c</ul>"


def test_data_for_the_script_cannot_end_it():
    value = {"name": "</script><script>alert(1)</script><!--", "and": "a&b\u2028"}
    html = render(data("values", value))
    assert html.count("<") == 2
    page = Page(html)
    assert json.loads(page.scripts[0]) == value
    assert page.tags == [("script", {"type": "application/json", "id": "values"})]


def test_data_hold_no_number_that_json_does_not_know():
    with pytest.raises(ValueError, match="JSON"):
        data("values", float("nan"))


@pytest.mark.parametrize("make", [script, style])
def test_code_that_ends_its_own_tag_is_refused(make):
    assert "a < b && c" in render(make("a < b && c"))
    with pytest.raises(ValueError, match="must not hold '</'"):
        make("'</script>'")
