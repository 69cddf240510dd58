"""`python -m bench`: all figures in one run on one stack, into bench/results.json and bench/results.svg.

`--quick` (or BENCH_QUICK=1) is a short run that proves that everything works; its figures mean little and go to a
folder of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import process
from bench import facts, plot, report
from bench.counted import Counted, HistoryCost, cost_of, count_payments, histories_of
from bench.lab import Lab, open_lab
from bench.load import Round, Side, alternate
from bench.payments import BareRuns, CannedPayments
from bench.report import Figure
from bench.webhooks import Deliveries, about, again, stored_events
from embedded.stack import ROOT
from engine.payments import workflow_id

RESULTS = ROOT / "bench"
QUICK_RESULTS = ROOT / ".local" / "bench"
BEGUN = time.monotonic()
PAYMENT_SIDES = ("bare", "workflow", "whole")
WEBHOOK_SIDES = ("bare insert", "recorded", "handed over")
RATE_AIM = 0.70
HISTORY_AIMS = {"events": 20, "actions": 6}
WAITING_PAYMENTS = 40
"""Payments that wait for the payer while events about them are handed over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything; seconds are those of one round."""

    warm_up_jobs: int
    counted_payments: int
    callers: tuple[int, ...]
    rounds: int
    ramp_seconds: float
    seconds: float
    webhook_rounds: int
    webhook_seconds: float


FULL = Plan(10, 10, (1, 20), 3, 1.0, 3.0, 2, 1.5)
QUICK = Plan(2, 2, (1, 4), 1, 0.2, 0.8, 1, 0.4)


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that one run found."""

    payments: list[Round]
    webhooks: list[Round]
    counted: Counted
    crowded: list[HistoryCost]
    canned: list[HistoryCost]
    bare: list[HistoryCost]


async def measure(lab: Lab, plan: Plan) -> Measured:
    """Count first (it warms everything up), then payments, then webhooks."""
    bare, canned = BareRuns(lab.client), CannedPayments(lab.client)
    sides = [
        Side("bare", bare.job),
        Side("workflow", canned.job),
        Side("whole", lab.whole.job, lab.quiet),
    ]
    for side in sides:
        for _ in range(plan.warm_up_jobs):
            await side.job(0)
    await lab.quiet()
    _say("counting what one payment costs")
    counted = await count_payments(lab, plan.counted_payments)
    rounds: list[Round] = []
    for callers in plan.callers:
        _say(f"payments, callers: {callers}")
        rounds += await alternate(
            sides, lab.meter, callers=callers, rounds=plan.rounds, ramp_seconds=plan.ramp_seconds, seconds=plan.seconds
        )
    await lab.check_books()
    crowded = await histories_of(lab.client, lab.whole.paid[-20:])
    webhooks = await measure_webhooks(lab, plan)
    return Measured(
        payments=rounds,
        webhooks=webhooks,
        counted=counted,
        crowded=crowded,
        canned=[await cost_of(lab.client, workflow_id(canned.done[-1]))],
        bare=[await cost_of(lab.client, bare.done[-1])],
    )


async def measure_webhooks(lab: Lab, plan: Plan) -> list[Round]:
    """The same kind of event: only inserted, recorded by the API, recorded and handed to a waiting workflow."""
    waiting = [await lab.whole.create(number) for number in range(WAITING_PAYMENTS)]
    stored = await stored_events(lab.database, WAITING_PAYMENTS)
    over = [again(one) for one in stored]
    news = [about(stored[0], payment_id, url.rpartition("/")[2]) for payment_id, url in waiting]
    route = f"/api/v1/webhooks/stripe/{lab.demo.account_id}"
    secret = lab.stack.env["DEMO_WEBHOOK_SECRET"]
    inserted = Deliveries(lab.bare_api_url, "/webhooks", over, None)
    recorded = Deliveries(lab.stack.api_url, route, over, secret)
    handed_over = Deliveries(lab.stack.api_url, route, news, secret)
    sides = [
        Side("bare insert", inserted.job),
        Side("recorded", recorded.job),
        Side("handed over", handed_over.job, lab.quiet),
    ]
    rounds: list[Round] = []
    for callers in plan.callers:
        _say(f"webhooks, callers: {callers}")
        rounds += await alternate(
            sides,
            lab.meter,
            callers=callers,
            rounds=plan.webhook_rounds,
            ramp_seconds=plan.ramp_seconds / 2,
            seconds=plan.webhook_seconds,
        )
    for one in (inserted, recorded, handed_over):
        await one.close()
    return rounds


def _say(what: str) -> None:
    print(f"{time.monotonic() - BEGUN:5.0f} s  {what}", flush=True)


async def run(plan: Plan, folder: Path) -> int:
    """Measure and report. Returns the exit code."""
    machine = facts.machine()
    async with open_lab() as lab:
        _say("PostgreSQL, Temporal, sandbox, worker, API and the yardsticks are up")
        measured = await measure(lab, plan)
    seconds = time.monotonic() - BEGUN
    payments = report.of_load(measured.payments, PAYMENT_SIDES, "bare", dict.fromkeys(PAYMENT_SIDES, RATE_AIM))
    payments |= report.of_shares(measured.payments, PAYMENT_SIDES, "bare", measured.counted.idle_ms)
    webhooks = report.of_load(measured.webhooks, WEBHOOK_SIDES, "bare insert", {})
    counted = counted_figures(measured)
    disturbance = report.disturbance(measured.payments + measured.webhooks)
    folder.mkdir(parents=True, exist_ok=True)
    report.write(
        folder / "results.json",
        {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds),
            "quick": plan is QUICK,
            "revision": facts.revision(),
            "machine": machine,
            "versions": facts.versions(),
            "disturbance": disturbance.as_json(),
            "method": METHOD,
            "payments": {name: figure.as_json() for name, figure in payments.items()},
            "webhooks": {name: figure.as_json() for name, figure in webhooks.items()},
            "counted": {name: figure.as_json() for name, figure in counted.items()},
            "counted_details": report.details(measured.counted, measured.canned, measured.bare),
            "rounds": report.of_rounds(measured.payments + measured.webhooks),
        },
    )
    plot.draw(folder / "results.svg", payments, webhooks, _footer(machine, disturbance))
    report.show(payments, webhooks, counted)
    print(f"other programs took {disturbance.value:.0%} of the processors; the less, the better the figures")
    print(f"{seconds:.0f} s; written to {folder}/results.json and results.svg", flush=True)
    return 0


def counted_figures(measured: Measured) -> dict[str, Figure]:
    """One payment at a time; with many at once; with one webhook only; the yardstick."""
    return (
        report.of_histories("whole", measured.counted.histories, HISTORY_AIMS)
        | report.of_histories("whole_crowded", measured.crowded, HISTORY_AIMS)
        | report.of_histories("one_webhook", measured.canned, HISTORY_AIMS)
        | report.of_histories("bare", measured.bare, {})
        | report.of_statements(measured.counted)
    )


METHOD = {
    "bare": "update-with-start, signal, end; two local activities that do nothing; its worker is a process of its own",
    "workflow": "PaymentWorkflow as it is, through the same engine calls as the API's, its side effects answered at "
    "once: what our workflow costs beside the bare one, without HTTP, database, provider and receipt",
    "whole": "POST /api/v1/payments, the card form of the sandbox's checkout page, its four signed webhooks, "
    "settlement, receipt and PDF; API, worker and sandbox are processes as in `make up`, all on this machine",
    "first_answer": "bare, workflow: the update's answer; whole: the 201 with the checkout address; webhooks: the 200",
    "whole_p50": "from the caller's first byte to the end of the workflow, seen by the same long poll on every side",
    "per_second": "jobs in the measured windows, those across an edge with the part of their time inside",
    "rate": "median over neighbouring rounds of one side's rate over the yardstick's",
    "engine_cpu": "the Temporal server's CPU for a bare workflow over that for this side, without what it spends idle: "
    "the ratio of rates where API, worker and database have machines of their own and the engine is what is full",
    "sandbox_share": "the part of all CPU time that the sandbox provider took, which no installation pays",
    "cpu": "user and system time of each process during the window, divided by the jobs in it",
    "between_rounds": "after each round of the whole service its notifications and events are worked off, unmeasured",
    "bare insert": "one FastAPI route, same server and pool, that inserts the same row and checks nothing",
    "recorded": "a signed event about a payment that is paid already: verified, stored, nobody to tell",
    "handed over": "a signed event about a waiting payment: verified, stored, its workflow signalled (which looks), "
    "unless an earlier event's look is still to come",
    "sql": "every message to PostgreSQL by the server's own log, BEGIN and COMMIT too; regular idle looks are left out",
    "counted": "whole: one payment at a time; whole_crowded: the last twenty of the timed ones",
}


def _footer(machine: dict[str, object], disturbance: Figure) -> str:
    when, processor = datetime.now(UTC), f"{machine['cores']} cores, {machine['processor']}"
    return f"{when:%Y-%m-%d} · everything on one machine, {processor} · {disturbance.value:.0%} taken by other programs"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", default=os.environ.get("BENCH_QUICK", "") not in ("", "0"))
    quick = parser.parse_args().quick
    return asyncio.run(run(QUICK, QUICK_RESULTS) if quick else run(FULL, RESULTS))


if __name__ == "__main__":
    process.end(main)
