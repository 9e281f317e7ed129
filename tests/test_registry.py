import pytest

from autoseg.errors import UnknownNameError
from autoseg.registry import PLUGIN_GROUP, Registry


def test_an_entry_is_found_by_its_name():
    registry: Registry[int] = Registry("number")
    registry.add("one", 1)
    assert registry.get("one") == 1
    assert list(registry) == ["one"]
    assert "one" in registry


def test_an_entry_may_be_named_by_module_and_attribute_and_is_imported_when_used():
    registry: Registry[float] = Registry("constant")
    registry.add("pi", "math:pi")
    registry.add("missing", "no_such_module:thing")
    assert registry.get("pi") == pytest.approx(3.14159, abs=1e-5)


def test_a_name_is_given_once():
    registry: Registry[int] = Registry("number")
    registry.add("one", 1)
    with pytest.raises(ValueError, match="a number named 'one' is registered already"):
        registry.add("one", 2)


def test_a_wrong_name_lists_the_right_ones():
    registry: Registry[int] = Registry("number")
    registry.add("one", 1)
    with pytest.raises(UnknownNameError, match=r"no number named 'on'; did you mean 'one'\?"):
        registry.get("on")


def test_a_plug_in_registers_its_entries_when_a_name_is_not_known(monkeypatch):
    registry: Registry[int] = Registry("number")

    class Plugin:
        def load(self):
            registry.add("from a plug-in", 7)

    def installed(group):
        assert group == PLUGIN_GROUP
        return [Plugin()]

    monkeypatch.setattr("autoseg.registry.entry_points", installed)
    monkeypatch.setattr("autoseg.registry._plugins_loaded", False)
    assert registry.get("from a plug-in") == 7
