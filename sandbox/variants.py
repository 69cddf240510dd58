"""Other shapes that a provider's real system is known to answer with, chosen for one account at a time.

A twin's module names its own in `VARIANTS`: what each changes, and where it was seen. Nothing is chosen by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module

from sandbox.state import Store

KIND = "variants"


class UnknownVariant(ValueError):
    """Not a variant of this provider's twin."""


def known(provider: str) -> Mapping[str, str]:
    """A provider's variants and what each of them is. Raises UnknownVariant where there is no such provider."""
    try:
        found: Mapping[str, str] = getattr(import_module(f"sandbox.{provider}"), "VARIANTS", {})
    except ModuleNotFoundError:
        raise UnknownVariant(f"no provider {provider}") from None
    return found


def choose(store: Store, provider: str, owner: str, names: Iterable[str]) -> list[str]:
    """Let the account that `owner` names answer so from now on, and in no other variant. Raises UnknownVariant."""
    wanted = sorted(set(names))
    unknown = [name for name in wanted if name not in known(provider)]
    if unknown:
        raise UnknownVariant(f"unknown: {', '.join(unknown)}; {provider} has {', '.join(sorted(known(provider)))}")
    store.put(KIND, owner, {"names": wanted}, f"{KIND}:{owner}")
    return wanted


def chosen(store: Store, owner: str, name: str) -> bool:
    """Whether this account answers in this variant."""
    found = store.get(KIND, f"{KIND}:{owner}")
    return found is not None and name in found["names"]
