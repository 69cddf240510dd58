"""A method that a path does not take is answered with all those that it takes."""

from __future__ import annotations

import asyncio
import re
from contextlib import nullcontext
from uuid import UUID

import httpx

from api.app import create_app
from api.problems import METHODS
from tests.support.service import Shop

PROBLEM = "application/problem+json"
NOBODY = str(UUID(int=7))
PATHS = create_app(nullcontext).openapi()["paths"]  # type: ignore[arg-type]  # not started


async def test_the_answer_405_names_all_methods_of_all_routes_of_a_path(shop: Shop) -> None:
    addresses = [re.sub(r"\{\w+\}", NOBODY, path) for path in PATHS]

    def taken(address: str) -> list[str]:
        """Also by a route that has a parameter where another one has a word."""
        fitting = [every for path, every in PATHS.items() if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), address)]
        return sorted({method.upper() for every in fitting for method in every})

    async with httpx.AsyncClient(base_url=shop.service.api_url, headers=shop.api.headers) as client:
        for address in addresses:
            allowed = taken(address)
            refused = await asyncio.gather(*(client.request(one, address) for one in set(METHODS) - set(allowed)))
            for answer in refused:
                assert (answer.status_code, answer.headers["content-type"]) == (405, PROBLEM), address
                assert answer.headers["allow"].split(", ") == allowed, address


async def test_files_of_the_documentation_are_read_only() -> None:
    app = create_app(nullcontext)  # type: ignore[arg-type]  # not started
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.post("/docs/assets/swagger-ui.css")
        page = await client.post("/docs")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert (page.status_code, page.headers["allow"]) == (405, "GET")
