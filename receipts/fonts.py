"""The fonts of documents, in the order in which they are asked for a character."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import fontpkg_heebo
import fontpkg_noto_sans
import fontpkg_noto_sans_arabic
import fontpkg_noto_sans_devanagari
import fontpkg_noto_sans_thai
import noto_cjk_sans_otc
import typst
from fontTools.ttLib import TTCollection, TTFont


@dataclass(frozen=True, slots=True)
class _Font:
    """A family and the wheel that brings it; `file` is the one whose characters count."""

    family: str
    wheel: ModuleType
    file: str

    @property
    def folder(self) -> Path:
        return Path(str(self.wheel.__file__)).parent


_CHAIN = (
    _Font("Heebo", fontpkg_heebo, "files/Heebo[[]*.ttf"),
    _Font("Noto Sans", fontpkg_noto_sans, "files/NotoSans[[]*.ttf"),
    _Font("Noto Sans Arabic", fontpkg_noto_sans_arabic, "files/*.ttf"),
    _Font("Noto Sans Devanagari", fontpkg_noto_sans_devanagari, "files/*.ttf"),
    _Font("Noto Sans Thai", fontpkg_noto_sans_thai, "files/*.ttf"),
    _Font("Noto Sans CJK SC", noto_cjk_sans_otc, "*.ttc"),
)
FAMILIES = tuple(font.family for font in _CHAIN)
"""Hebrew and Latin; Greek, Cyrillic and all other Latin; Arabic; Devanagari; Thai; Chinese, Japanese, Korean."""


@cache
def typst_fonts() -> typst.Fonts:
    """The same for the compiler, which puts into a PDF only the pictures that it uses. None of the machine's own."""
    folders = [font.folder for font in _CHAIN]
    return typst.Fonts(font_paths=[*folders], include_system_fonts=False, include_embedded_fonts=False)


def is_drawable(cluster: str) -> bool:
    """Whether one font has pictures of a character together with the marks on it, composed or apart."""
    if any(unicodedata.category(character) in ("Cs", "Co") for character in cluster):
        return False
    spellings = {unicodedata.normalize(form, cluster) for form in ("NFC", "NFD")}
    return any(_has(font, spelling) for font in _CHAIN for spelling in spellings)


def _has(font: _Font, text: str) -> bool:
    return all(ord(character) in _pictures(font) for character in text)


@cache
def _pictures(font: _Font) -> Collection[int]:
    """The code points that a font has; read when the fonts before it lack something."""
    (file,) = font.folder.glob(font.file)
    if file.suffix != ".ttc":
        return frozenset(TTFont(file, lazy=True).getBestCmap())
    found = next(one for one in TTCollection(file, lazy=True).fonts if one["name"].getDebugName(1) == font.family)
    return frozenset(found.getBestCmap())
