"""From measurements to figures with units, a file and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.counted import Counted, HistoryCost, middle, most
from bench.load import Ratio, Round, Summary, ratio_of, summarise
from bench.sql_log import by_label

HISTORY_FIELDS = {
    "events": "events",
    "workflow_tasks": "tasks",
    "failed_workflow_tasks": "tasks",
    "signals": "signals",
    "actions": "actions",
    "size_bytes": "bytes",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `aim` is what it should be, where something was set."""

    value: float
    unit: str
    aim: str | None = None
    reached: bool | None = None

    def as_json(self) -> dict[str, object]:
        """Without what was not set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def at_least(value: float, unit: str, aim: float) -> Figure:
    """A figure that should not be smaller."""
    return Figure(round(value, 3), unit, f">= {aim:g}", value >= aim)


def at_most(value: float, unit: str, aim: float) -> Figure:
    """A figure that should not be larger."""
    return Figure(round(value, 3), unit, f"<= {aim:g}", value <= aim)


def of_load(rounds: Sequence[Round], sides: Sequence[str], to: str, aims: Mapping[str, float]) -> dict[str, Figure]:
    """Rates, latencies, CPU and ratios to the yardstick, by side and number of callers; `aims` is by side."""
    figures: dict[str, Figure] = {}
    for callers in sorted({one.callers for one in rounds}):
        for side in sides:
            figures |= _of_side(f"callers_{callers}.{side}", summarise(rounds, side, callers))
            if side != to:
                ratio = ratio_of(rounds, side, to, callers)
                figures |= _of_ratio(f"callers_{callers}.{side}_to_{to}", ratio, aims.get(side))
    return figures


def _of_side(name: str, summary: Summary) -> dict[str, Figure]:
    timed = {
        f"{name}.per_second": Figure(round(summary.per_second, 2), "1/s"),
        f"{name}.first_answer_p50": Figure(round(summary.first_p50, 1), "ms"),
        f"{name}.first_answer_p95": Figure(round(summary.first_p95, 1), "ms"),
        f"{name}.whole_p50": Figure(round(summary.whole_p50, 1), "ms"),
        f"{name}.whole_p95": Figure(round(summary.whole_p95, 1), "ms"),
        f"{name}.jobs": Figure(summary.jobs, "jobs"),
    }
    spent = {
        f"{name}.cpu.{part}": Figure(round(ms, 2), "CPU ms a job")
        for part, ms in summary.cpu_ms_per_job.items()
        if ms >= 0.5
    }
    return timed | spent


def _of_ratio(name: str, ratio: Ratio, aim: float | None) -> dict[str, Figure]:
    middle_one = Figure(round(ratio.median, 3), "ratio") if aim is None else at_least(ratio.median, "ratio", aim)
    return {
        f"{name}.rate": middle_one,
        f"{name}.rate_lowest_pair": Figure(round(ratio.low, 3), "ratio"),
        f"{name}.rate_highest_pair": Figure(round(ratio.high, 3), "ratio"),
    }


def of_shares(
    rounds: Sequence[Round], sides: Sequence[str], to: str, idle_ms: Mapping[str, float]
) -> dict[str, Figure]:
    """Where the processor's time goes: the engine's part against the yardstick's, and the sandbox's part of all.

    `idle_ms` is what each process spends in a second when nothing is asked of it; the engine's part is without it.
    """
    figures = {f"idle.cpu.{part}": Figure(round(ms, 1), "CPU ms a second") for part, ms in idle_ms.items()}
    for callers in sorted({one.callers for one in rounds}):
        found = {side: summarise(rounds, side, callers) for side in sides}
        engine = {side: _engine_ms(summary, idle_ms) for side, summary in found.items()}
        for side, summary in found.items():
            name = f"callers_{callers}.{side}"
            if side != to and engine[side] > 0:
                figures[f"{name}_to_{to}.engine_cpu"] = Figure(round(engine[to] / engine[side], 3), "ratio")
            sandbox = summary.cpu_ms_per_job.get("sandbox", 0.0)
            if sandbox >= 0.5:
                share = sandbox / sum(summary.cpu_ms_per_job.values())
                figures[f"{name}.sandbox_share"] = Figure(round(share, 3), "share of CPU time")
    return figures


def _engine_ms(summary: Summary, idle_ms: Mapping[str, float]) -> float:
    spent = summary.cpu_ms_per_job.get("temporal", 0.0)
    return spent - idle_ms.get("temporal", 0.0) / summary.per_second if summary.per_second else 0.0


def disturbance(rounds: Sequence[Round]) -> Figure:
    """How much of the machine other programs took, on average over all rounds."""
    mean = sum(one.disturbance for one in rounds) / max(1, len(rounds))
    return Figure(round(mean, 3), "share of the processors, taken by other programs")


def of_histories(name: str, costs: Sequence[HistoryCost], aims: Mapping[str, float]) -> dict[str, Figure]:
    """Median and largest of each field."""
    figures: dict[str, Figure] = {}
    for field, unit in HISTORY_FIELDS.items():
        value = middle(costs, field)
        figures[f"{name}.{field}"] = at_most(value, unit, aims[field]) if field in aims else Figure(value, unit)
        figures[f"{name}.{field}_most"] = Figure(most(costs, field), unit)
    return figures


def of_statements(counted: Counted) -> dict[str, Figure]:
    """What was said to PostgreSQL, a payment."""
    return {
        "sql.statements": Figure(round(counted.statements_each, 1), "statements a payment"),
        "sql.round_trips": Figure(round(counted.round_trips_each, 1), "round trips a payment"),
        "sql.transactions": Figure(round(counted.transactions_each, 1), "transactions a payment"),
    }


def details(counted: Counted, canned: Sequence[HistoryCost], bare: Sequence[HistoryCost]) -> dict[str, object]:
    """What the counted figures consist of."""
    return {
        "actions_of_whole_payments": [dict(one.actions) for one in counted.histories],
        "actions_of_one_webhook": dict(canned[0].actions),
        "actions_of_bare": dict(bare[0].actions),
        "transactions": [
            {"statements": label, "a_payment": round(number / counted.payments, 2)}
            for label, number in by_label(counted.transactions).most_common()
        ],
    }


def of_rounds(rounds: Sequence[Round]) -> list[dict[str, object]]:
    """The single rounds, in the order in which they ran."""
    return [
        {
            "side": one.side,
            "callers": one.callers,
            "seconds": one.seconds,
            "jobs": round(one.done, 2),
            "per_second": round(one.per_second, 2),
            "disturbance": round(one.disturbance, 3),
        }
        for one in rounds
    ]


def write(path: Path, content: Mapping[str, object]) -> None:
    """As JSON, readable in a diff."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def show(payments: Mapping[str, Figure], webhooks: Mapping[str, Figure], counted: Mapping[str, Figure]) -> None:
    """Three short tables."""
    console = Console(width=110)
    console.print(_table_of_load("Payments: first answer is the checkout address", payments))
    console.print(_table_of_load("Webhooks: first answer is the 200", webhooks))
    table = Table("counted, one payment", "median", "aim", title="Counted", title_justify="left")
    for name, figure in counted.items():
        if not name.endswith("_most"):
            table.add_row(name, f"{figure.value:g} {figure.unit}", _aim(figure))
    console.print(table)


def _table_of_load(title: str, figures: Mapping[str, Figure]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("callers", "side", "1/s", "first p50 ms", "p95 ms", "whole p50 ms", "CPU ms", "ratio", "aim"):
        table.add_column(heading, justify="left" if heading == "side" else "right")
    for name in (name.removesuffix(".per_second") for name in figures if name.endswith(".per_second")):
        callers, side = name.removeprefix("callers_").split(".")
        ratio = next((figures[key] for key in figures if key.startswith(f"{name}_to_") and key.endswith(".rate")), None)
        cpu = sum(figure.value for key, figure in figures.items() if key.startswith(f"{name}.cpu."))
        values = [f"{figures[f'{name}.{field}'].value:.1f}" for field in SHOWN]
        table.add_row(callers, side, *values, f"{cpu:.0f}", f"{ratio.value:.2f}" if ratio else "", _aim(ratio))
    return table


SHOWN = ("per_second", "first_answer_p50", "first_answer_p95", "whole_p50")


def _aim(figure: Figure | None) -> str:
    if figure is None or figure.aim is None:
        return ""
    return f"{figure.aim} {'reached' if figure.reached else 'missed'}"
