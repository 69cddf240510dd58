"""The benchmark's own arithmetic; its figures are nowhere asserted."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi import FastAPI, Request
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from bench import plot, report
from bench.actions import billable_actions
from bench.load import Round, Side, quantile, ratio_of, run_round, summarise
from bench.sql_log import Transaction, transactions, without
from bench.webhooks import Deliveries, Stored, about, again, signature
from bench.wire import Caller, Unexpected
from providers.base import EventKind
from providers.stripe.webhooks import check_signature, read_event
from tests.support.service import served


def event(kind: str) -> HistoryEvent:
    return HistoryEvent(event_type=EventType.Value(f"EVENT_TYPE_{kind}"))


def marker(task: int) -> HistoryEvent:
    recorded = event("MARKER_RECORDED")
    recorded.marker_recorded_event_attributes.workflow_task_completed_event_id = task
    return recorded


def test_actions_follow_the_published_rules() -> None:
    retried = event("ACTIVITY_TASK_STARTED")
    retried.activity_task_started_event_attributes.attempt = 3
    history = [
        event("WORKFLOW_EXECUTION_STARTED"),
        event("WORKFLOW_TASK_COMPLETED"),
        event("WORKFLOW_EXECUTION_UPDATE_ACCEPTED"),
        marker(4),
        marker(4),
        event("TIMER_STARTED"),
        event("TIMER_CANCELED"),
        event("WORKFLOW_EXECUTION_UPDATE_COMPLETED"),
        event("WORKFLOW_EXECUTION_SIGNALED"),
        marker(12),
        event("ACTIVITY_TASK_SCHEDULED"),
        retried,
        event("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"),
        event("WORKFLOW_EXECUTION_COMPLETED"),
    ]
    bill = billable_actions(history)
    assert bill["local activities of a workflow task"] == 2
    assert bill["activity retried"] == 2
    assert bill.total() == 10


def test_a_local_activity_retried_after_a_heartbeat_is_billed_up_to_the_cap() -> None:
    task = event("WORKFLOW_TASK_COMPLETED")
    metering = task.workflow_task_completed_event_attributes.metering_metadata
    metering.nonfirst_local_activity_execution_attempts = 250
    assert billable_actions([task]).total() == 100


LOG = """@11@ LOG:  statement: BEGIN;
@12@ LOG:  statement: BEGIN;
@11@ LOG:  execute __asyncpg_stmt_1__: SELECT payments.id
\tFROM payments, workspaces
\tWHERE payments.id = $1 FOR UPDATE OF payments
@12@ LOG:  execute __asyncpg_stmt_9__: SELECT outbox.id FROM outbox
@11@ LOG:  execute __asyncpg_stmt_2__: INSERT INTO outbox (id) VALUES ($1)
@12@ LOG:  statement: COMMIT;
@11@ LOG:  statement: COMMIT;
@13@ LOG:  statement: SELECT pg_reload_conf()
@11@ WARNING:  something else
"""


def test_statements_are_grouped_by_session_and_transaction() -> None:
    found = transactions(LOG)
    assert [one.label for one in found] == [
        "SELECT outbox",
        "SELECT payments for update · INSERT outbox",
        "SELECT pg_reload_conf",
    ]
    update = Transaction(("UPDATE attempts SET x = $1 WHERE attempts.code IS DISTINCT FROM NULL",))
    assert update.label == "UPDATE attempts"
    assert [one.round_trips for one in found] == [3, 4, 1]


def test_what_is_said_at_rest_too_is_left_out() -> None:
    found = transactions(LOG)
    assert [one.label for one in without(found, found[:1])] == [one.label for one in found[1:]]


def a_round(side: str, done: int, callers: int = 1) -> Round:
    return Round(side, callers, 2.0, done, (1.0, 3.0), (5.0, 7.0), {"api": 10.0 * done, "temporal": 4.0 * done})


def test_ratios_pair_neighbouring_rounds() -> None:
    rounds = [a_round("bare", 100), a_round("whole", 50), a_round("bare", 40), a_round("whole", 30)]
    ratio = ratio_of(rounds, "whole", "bare", 1)
    assert (ratio.low, ratio.median, ratio.high) == (0.5, 0.625, 0.75)
    busy = Round("whole", 1, 2.0, 1, (), (), {"others": 2000.0 * (os.cpu_count() or 1)})
    assert (busy.disturbance, rounds[0].disturbance) == (1.0, 0.0)
    summary = summarise(rounds, "whole", 1)
    assert summary.per_second == 20
    assert summary.cpu_ms_per_job == {"api": 10.0, "temporal": 4.0}


def test_quantiles_are_values_that_occurred() -> None:
    assert quantile([], 0.5) == 0
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile(list(range(100)), 0.95) == 95


def test_figures_say_whether_their_aim_was_reached(tmp_path: Path) -> None:
    rounds = [a_round("bare", 100), a_round("whole", 50)]
    figures = report.of_load(rounds, ("bare", "whole"), "bare", {"whole": 0.7})
    rate = figures["callers_1.whole_to_bare.rate"]
    assert rate.as_json() == {"value": 0.5, "unit": "ratio", "aim": ">= 0.7", "reached": False}
    assert report.at_most(6, "actions", 6).reached
    shares = report.of_shares(rounds, ("bare", "whole"), "bare", {"temporal": 50.0})
    assert shares["callers_1.whole_to_bare.engine_cpu"].value == 1.5  # 4 ms - 50/50 against 4 ms - 50/25
    plot.draw(tmp_path / "plot.svg", figures, figures, "a < b")
    drawing = (tmp_path / "plot.svg").read_text()
    assert drawing.startswith("<svg ")
    assert "a &lt; b" in drawing
    assert "whole, 1 caller" in drawing


def an_event() -> Stored:
    payment_id = uuid4()
    thing = {
        "id": "cs_test_one",
        "object": "checkout.session",
        "client_reference_id": str(payment_id),
        "payment_intent": "pi_one",
        "payment_status": "paid",
        "amount_total": 12990,
        "currency": "ils",
    }
    event = {"id": "evt_one", "object": "event", "type": "checkout.session.completed", "data": {"object": thing}}
    return Stored("evt_one", payment_id, "cs_test_one", "pi_one", json.dumps(event))


def test_the_events_sent_are_such_as_the_adapter_accepts() -> None:
    other = uuid4()
    body = about(an_event(), other, "cs_test_other").encode()
    check_signature(signature("whsec_x", body), body, ["whsec_x"], datetime.now(UTC))
    read = read_event(body)
    assert (read.kind, read.reference, read.session_id) == (EventKind.CAPTURED, other, "cs_test_other")
    assert read.transaction_id == f"pi_{other.hex}"
    assert read_event(again(an_event()).encode()).transaction_id == "pi_one"


@asynccontextmanager
async def counting() -> AsyncIterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []
    app = FastAPI()

    @app.post("/take")
    async def take(request: Request) -> dict[str, str]:
        bodies.append(await request.body())
        return {"as": request.headers.get("x-name", "")}

    async with served(app) as url:
        yield url, bodies


async def test_a_caller_keeps_its_connection_and_opens_a_new_one_when_the_server_hung_up() -> None:
    async with counting() as (url, bodies), Caller(url, {"x-name": "one"}) as caller:
        answers = [await caller.post("/take", b"x" * number, {}) for number in range(3)]
        assert {(answer.status, answer.body) for answer in answers} == {(200, b'{"as":"one"}')}
        reader = caller._streams[0] if caller._streams else None
        assert reader is not None
        reader.feed_eof()
        assert (await caller.post("/take", b"again", {})).status == 200
        assert bodies == [b"", b"x", b"xx", b"again"]


async def test_every_delivery_is_an_event_of_its_own() -> None:
    async with counting() as (url, bodies):
        deliveries = Deliveries(url, "/take", [again(an_event()), again(an_event())], "whsec_x")
        await asyncio.gather(*(deliveries.job(number) for number in range(6)))
        await deliveries.close()
        assert len({read_event(body).event_id for body in bodies}) == 6


async def test_an_answer_of_another_kind_stops_the_run() -> None:
    async with counting() as (url, _):
        deliveries = Deliveries(url, "/elsewhere", [again(an_event())], None)
        with pytest.raises(Unexpected, match="404"):
            await deliveries.job(0)
        await deliveries.close()


class NoMeter:
    def read(self) -> dict[str, float]:
        return {}


async def test_a_job_across_the_edge_counts_with_its_part_inside() -> None:
    async def job(caller: int) -> float:
        await asyncio.sleep(0.4)
        return time.perf_counter()

    measured = await run_round(Side("slow", job), NoMeter(), callers=2, ramp_seconds=0, seconds=0.2)
    assert 0 < measured.done < 2
    assert len(measured.whole_ms) == 2
