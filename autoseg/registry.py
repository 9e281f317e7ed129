"""Named implementations: networks, losses, normalizers, readers, and those of plug-ins."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from autoseg.errors import unknown_name

T = TypeVar("T")

PLUGIN_GROUP = "autoseg.plugins"


class Registry(Generic[T]):
    """A mapping from a name to one implementation, imported when it is used.

    Args:
        kind: what an entry is, for messages, such as ``"network"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T | str] = {}

    def add(self, name: str, entry: T | str) -> None:
        """Register an implementation.

        Args:
            name: the name users write.
            entry: the implementation, or ``"module:attribute"`` to import on first use.

        Raises:
            ValueError: if the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"a {self.kind} named '{name}' is registered already")
        self._entries[name] = entry

    def get(self, name: str) -> T:
        """Return the implementation of a name.

        Raises:
            UnknownNameError: if neither autoseg nor a plug-in registered it.
        """
        if name not in self._entries:
            _load_plugins()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = cast("T", getattr(import_module(module), attribute))
            self._entries[name] = entry
        return entry

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names, those of plug-ins last."""
        _load_plugins()
        return iter(tuple(self._entries))

    def __contains__(self, name: object) -> bool:
        """Whether a name is registered (plug-ins not yet loaded do not count)."""
        return name in self._entries


_plugins_loaded = False


def _load_plugins() -> None:
    """Import every installed plug-in once; importing is what registers its entries."""
    global _plugins_loaded  # noqa: PLW0603 - once per process is the point
    if _plugins_loaded:
        return
    _plugins_loaded = True
    for plugin in entry_points(group=PLUGIN_GROUP):
        plugin.load()
