"""Connecting to Temporal: a local server, a cluster, or Temporal Cloud."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from engine.codec import AesGcmCodec
from workflows import search_attributes


@dataclass(frozen=True, slots=True)
class TemporalTarget:
    """Where Temporal is and how to prove who we are. TLS is on when an API key or a certificate is given."""

    address: str
    namespace: str = "default"
    api_key: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    codec_keys: Sequence[str] = ()

    def tls(self) -> TLSConfig | bool:
        """Client certificate and server authority, or plain TLS with an API key, or none on loopback."""
        if self.tls_cert or self.tls_ca:
            return TLSConfig(
                server_root_ca_cert=self.tls_ca.read_bytes() if self.tls_ca else None,
                client_cert=self.tls_cert.read_bytes() if self.tls_cert else None,
                client_private_key=self.tls_key.read_bytes() if self.tls_key else None,
            )
        return self.api_key is not None


def data_converter(codec_keys: Sequence[str] = ()) -> DataConverter:
    """Pydantic types as JSON, sealed when there are keys."""
    if not codec_keys:
        return pydantic_data_converter
    return dataclasses.replace(pydantic_data_converter, payload_codec=AesGcmCodec(codec_keys))


async def connect(target: TemporalTarget, *, lazy: bool = False) -> Client:
    """A client; with `lazy` it connects at the first call, so that the API starts while Temporal is down."""
    return await Client.connect(
        target.address,
        namespace=target.namespace,
        api_key=target.api_key,
        tls=target.tls(),
        data_converter=data_converter(target.codec_keys),
        lazy=lazy,
    )


async def register_search_attributes(client: Client) -> bool:
    """Register ours where the server lets us (Temporal Cloud wants its own tools). True when all are there."""
    types = {
        attribute.name: IndexedValueType.ValueType(attribute.indexed_value_type) for attribute in search_attributes.ALL
    }
    try:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=types)
        )
    except RPCError as error:
        return error.status is RPCStatusCode.ALREADY_EXISTS
    return True


@asynccontextmanager
async def within(wait: timedelta, start: WithStartWorkflowOperation[Any, Any]) -> AsyncIterator[None]:
    """Wait so long for the answer of an update that starts its workflow. Raises TimeoutError.

    The library puts the failure of such a start aside as well, and logs an error about it unless somebody takes it up:
    every slow provider would look like a fault.
    """
    try:
        async with asyncio.timeout(wait.total_seconds()):
            yield
    except BaseException:
        put_aside = asyncio.ensure_future(start.workflow_handle())
        await asyncio.wait([put_aside], timeout=0)
        if not put_aside.done():
            put_aside.cancel()
        elif not put_aside.cancelled():
            put_aside.exception()
        raise
