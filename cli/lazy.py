"""Commands whose module is imported when they are called: a list of commands, or a signature, needs no database."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class Lazy(click.Command):
    """Stands in a group's list for a command that `place` holds, as `module:name`. `help_text` is that command's."""

    def __init__(self, name: str, place: str, help_text: str) -> None:
        super().__init__(name, help=help_text)
        self._place = place

    def load(self) -> click.Command:
        """The command itself."""
        module, _, name = self._place.partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the command itself, which from here on is the one that runs."""
        return self.load().make_context(info_name, args, parent, **extra)
