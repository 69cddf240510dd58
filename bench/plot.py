"""The main figures as one SVG, drawn by hand: three groups of bars, no library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bench.report import Figure

WIDTH, LEFT, BAR, GAP = 860, 250, 18, 8
SCALE_WIDTH = WIDTH - LEFT - 90
COLOURS = {
    "bare": "#8a94a6",
    "workflow": "#3b82c4",
    "whole": "#1f5f99",
    "bare insert": "#8a94a6",
    "recorded": "#3b82c4",
    "handed over": "#1f5f99",
    "api": "#1f5f99",
    "worker": "#3b82c4",
    "bench-worker": "#7fb2de",
    "bench-bare-api": "#7fb2de",
    "sandbox": "#c9a227",
    "postgres": "#4f9d69",
    "temporal": "#b5533c",
    "callers": "#c8ccd4",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A label and one or more lengths laid end to end, each with the name that decides its colour."""

    label: str
    lengths: Sequence[tuple[str, float]]

    @property
    def total(self) -> float:
        """The whole length."""
        return sum(value for _, value in self.lengths)


def draw(path: Path, payments: Mapping[str, Figure], webhooks: Mapping[str, Figure], footer: str) -> None:
    """Payments per second, what the processor does for one job, events per second."""
    groups = [
        ("Payments per second", _rates(payments)),
        ("Processor time for one job, CPU ms", _shares(payments)),
        ("Webhooks per second", _rates(webhooks)),
    ]
    parts: list[str] = []
    y = 24
    for title, bars in groups:
        parts.append(_text(16, y, title, weight="bold"))
        y += 12
        y = _group(parts, bars, y) + 26
    y = _legend(parts, y)
    parts.append(_text(16, y + 18, footer, size=11))
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 34}" viewBox="0 0 {WIDTH} {y + 34}" '
        f'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _group(parts: list[str], bars: Sequence[Bar], y: int) -> int:
    longest = max((bar.total for bar in bars), default=1.0) or 1.0
    for bar in bars:
        parts.append(_text(LEFT - 10, y + 14, bar.label, anchor="end"))
        x = float(LEFT)
        for name, value in bar.lengths:
            width = value / longest * SCALE_WIDTH
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLOURS.get(name, "#999999")}">'
                f"<title>{escape(name)}: {value:.1f}</title></rect>"
            )
            x += width
        parts.append(_text(x + 6, y + 14, f"{bar.total:.1f}"))
        y += BAR + GAP
    return y


def _legend(parts: list[str], y: int) -> int:
    x = 16
    for name in ("api", "worker", "bench-worker", "sandbox", "postgres", "temporal", "callers"):
        parts.append(f'<rect x="{x}" y="{y - 11}" width="12" height="12" fill="{COLOURS[name]}"/>')
        parts.append(_text(x + 17, y, name, size=11))
        x += 34 + 7 * len(name)
    return y


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}" '
        f'fill="#1c2530">{escape(text)}</text>'
    )


def _names(figures: Mapping[str, Figure]) -> list[tuple[str, str, str]]:
    """Prefix, callers and side of each measured side."""
    prefixes = [name.removesuffix(".per_second") for name in figures if name.endswith(".per_second")]
    return [(prefix, *_split(prefix)) for prefix in prefixes]


def _split(prefix: str) -> tuple[str, str]:
    callers, side = prefix.removeprefix("callers_").split(".")
    return f"{callers} caller{'s' if callers != '1' else ''}", side


def _rates(figures: Mapping[str, Figure]) -> list[Bar]:
    return [
        Bar(f"{side}, {callers}", [(side, figures[f"{prefix}.per_second"].value)])
        for prefix, callers, side in _names(figures)
    ]


def _shares(figures: Mapping[str, Figure]) -> list[Bar]:
    return [
        Bar(
            f"{side}, {callers}",
            [
                (name.rpartition(".")[2], figure.value)
                for name, figure in figures.items()
                if name.startswith(f"{prefix}.cpu.")
            ],
        )
        for prefix, callers, side in _names(figures)
    ]
