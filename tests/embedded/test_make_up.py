"""`make up` as a person runs it: a process of its own, its signals, its exit codes, its data the next day."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest

from embedded import postgres
from embedded.parts import free_ports, listens
from embedded.stack import PORT_SETTINGS, ROOT, read_env
from tests.support.service import eventually

PARTS = 5
UP = "Ctrl-C stops everything."
INVITATION = re.compile(r"A payment to try +http://127\.0\.0\.1:\d+/c/pay/cs_test_")


@dataclass
class Run:
    """One `make up`. What it started is known by process id, also after its end."""

    process: subprocess.Popen[bytes]
    output: Path
    family: list[psutil.Process] = field(default_factory=list)

    def text(self) -> str:
        return self.output.read_text()

    async def says(self, text: str) -> None:
        async def said() -> bool:
            assert self.process.poll() is None or text in self.text(), self.text()
            return text in self.text()

        await eventually(said, 60)

    async def is_up(self) -> None:
        await self.says(UP)
        self.remember()
        assert INVITATION.search(self.text()), self.text()

    async def starts(self, number: int) -> None:
        """Wait until it has so many children."""

        async def started() -> bool:
            self.remember()
            return len(psutil.Process(self.process.pid).children()) >= number

        await eventually(started)

    def remember(self) -> None:
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    async def ends(self) -> int:
        """The exit code, once nothing that it started is left."""
        code = await asyncio.to_thread(self.process.wait, 40)

        async def gone() -> bool:
            return not any(alive(process) for process in self.family)

        await eventually(gone)
        return code


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@dataclass
class House:
    """A state folder with its ports."""

    state: Path
    ports: dict[str, int]
    runs: list[Run] = field(default_factory=list)

    def up(self, **settings: str) -> Run:
        output = self.state.with_name(f"{self.state.name}-{len(self.runs)}.txt")
        env = {**os.environ, **{name: str(port) for name, port in self.ports.items()}, "STATE_FOLDER": str(self.state)}
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "embedded", "up"],
                cwd=ROOT,
                env=env | settings,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.runs.append(Run(process, output))
        return self.runs[-1]

    async def api(self, method: str, path: str, **arguments: object) -> httpx.Response:
        key = read_env(self.state / "dev.env")["DEMO_API_KEY"]
        async with httpx.AsyncClient(timeout=30) as http:
            return await http.request(
                method,
                f"http://127.0.0.1:{self.ports['API_PORT']}/api/v1{path}",
                headers={"authorization": f"Bearer {key}"},
                **arguments,  # type: ignore[arg-type]
            )

    async def pays(self, order_id: str) -> str:
        """A payment that the payer has just paid; what follows from that is still on its way."""
        order = {"amount": "10.00", "currency": "ILS", "order_id": order_id}
        payment = (await self.api("POST", "/payments", json=order)).json()
        async with httpx.AsyncClient(timeout=30) as browser:
            assert (await browser.post(payment["checkout_url"], data={"outcome": "pay"})).status_code == 200
        return str(payment["id"])

    async def is_paid(self, payment_id: str) -> None:
        async def paid() -> bool:
            return bool((await self.api("GET", f"/payments/{payment_id}")).json()["status"] == "paid")

        await eventually(paid, 40)

    async def numbers(self) -> list[int]:
        """Of all receipts."""
        address = postgres.database_url(self.state / "postgres").replace("+asyncpg", "")
        connection = await asyncpg.connect(address)
        try:
            return [row["number"] for row in await connection.fetch("SELECT number FROM receipts ORDER BY number")]
        finally:
            await connection.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != Path("/") and folder.stat().st_mode & 0o111 != 0o111:
            folder.chmod(folder.stat().st_mode | 0o111)
    made = House(tmp_path / "state", dict(zip(PORT_SETTINGS.values(), free_ports(4), strict=True)))
    yield made
    for run in made.runs:
        run.process.kill()
        run.process.wait()


async def test_it_starts_again_on_its_data_after_kill_9_of_everything_and_ends_with_ctrl_c(house: House) -> None:
    first = house.up()
    await first.is_up()
    assert "make demo PROVIDER=…: stripe, payplus, meshulam (ILS) · payu, wompi, efecty (COP)" in first.text()
    paid = await house.pays("first")
    await house.is_paid(paid)
    # one more on the same data, and one more on the same ports
    same_data, same_ports = house.up(), house.up(STATE_FOLDER=str(house.state.with_name("other")))
    assert (await same_data.ends(), await same_ports.ends()) == (1, 1)
    assert f"Already running here (process {first.process.pid})" in same_data.text()
    assert re.search(rf"Port {house.ports['API_PORT']} is taken.*API_PORT=\d+ make up", same_ports.text())
    cut_off = await house.pays("cut off")
    first.remember()
    assert len(first.family) > PARTS
    for process in (psutil.Process(first.process.pid), *first.family):
        with suppress(psutil.NoSuchProcess):
            process.kill()

    second = house.up()  # at once
    await second.is_up()
    for payment_id in (paid, cut_off):
        await house.is_paid(payment_id)
    left_alone = await house.pays("left alone")
    second.process.kill()  # its parts are left to themselves

    third = house.up()
    await third.is_up()
    await house.is_paid(left_alone)
    assert await house.numbers() == [1, 2, 3]
    os.killpg(third.process.pid, signal.SIGINT)
    assert await third.ends() == 0
    assert not any([await listens(port) for port in house.ports.values()])
    assert not postgres.socket_folder(house.state / "postgres").exists()


@pytest.mark.parametrize(("number", "children"), [(signal.SIGINT, 0), (signal.SIGTERM, 2)], ids=["ctrl-c", "sigterm"])
async def test_asked_to_stop_while_it_starts_it_ends_well(house: House, number: signal.Signals, children: int) -> None:
    run = house.up()
    await run.says("starting PostgreSQL")
    await run.starts(children)
    os.killpg(run.process.pid, number)  # as a terminal does, to all that have not left its group
    os.killpg(run.process.pid, number)  # by somebody who cannot wait
    assert await run.ends() == 0
    assert "stopped; the data stays in" in run.text()


async def test_a_part_that_cannot_start_gives_its_reason_and_an_exit_code(house: House) -> None:
    (house.state / "temporal" / "temporal.db").mkdir(parents=True)
    run = house.up()
    await run.starts(1)
    assert await run.ends() == 1
    assert "temporal did not start" in run.text()
    assert str(house.state / "logs" / "temporal.log") in run.text()
