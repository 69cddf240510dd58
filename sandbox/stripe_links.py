"""The page behind a payment link: each visit makes a session of its own and goes on to that session's page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, select_autoescape

from sandbox.stripe_objects import StripeTwin

_pages = Environment(loader=PackageLoader("sandbox"), autoescape=select_autoescape(default=True))


def router(twin: StripeTwin) -> APIRouter:
    """`GET /b/{link_id}`; `client_reference_id` in the query is written into the session, whoever says it."""
    routes = APIRouter()

    @routes.get("/b/{link_id}")
    async def visit(request: Request, link_id: str, client_reference_id: str | None = None) -> Response:
        link = twin.store.get("payment_link", link_id)
        if link is None:
            return HTMLResponse(_pages.get_template("missing.html").render(), 404)
        session = twin.visit_link(link, str(request.base_url).rstrip("/"), client_reference_id)
        if session is None:
            return HTMLResponse(_pages.get_template("done.html").render(paid=False, name=link["_product"]), 410)
        return RedirectResponse(f"/c/pay/{session['id']}", 303)

    return routes
