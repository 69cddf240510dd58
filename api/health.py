"""Is the process alive, and can it do its work."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.context import Services, ServicesDep

router = APIRouter(tags=["health"])

CHECK_SECONDS = 3.0


class Health(BaseModel):
    """`ok`, or what is wrong part by part."""

    status: str
    parts: dict[str, str] = {}


@router.get("/healthz", summary="Is the process alive")
async def alive() -> Health:
    """Always 200 while the process answers."""
    return Health(status="ok")


@router.get("/readyz", summary="Can it do its work", responses={503: {"model": Health}})
async def ready(services: ServicesDep, response: Response) -> Health:
    """200 when PostgreSQL and Temporal answer, else 503 naming the part that does not."""
    database, temporal = await asyncio.gather(_database(services), _temporal(services))
    parts = {"database": database, "temporal": temporal}
    good = all(state == "ok" for state in parts.values())
    response.status_code = 200 if good else 503
    return Health(status="ok" if good else "unavailable", parts=parts)


async def _database(services: Services) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await services.database.ping()
    except Exception as error:  # any failure is the answer here
        return type(error).__name__
    return "ok"


async def _temporal(services: Services) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            healthy = await services.engine.client.service_client.check_health()
    except Exception as error:  # any failure is the answer here
        return type(error).__name__
    return "ok" if healthy else "not serving"
