"""What a payer's browser does with a page: read its forms, press a button, follow where that leads. No scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

_NOT_SENT = frozenset({"button", "image", "reset", "file"})
_CHOSEN_IF_CHECKED = frozenset({"checkbox", "radio"})


@dataclass(frozen=True, slots=True)
class Button:
    """A button; pressed, it sends its name and value with the form's fields, if it has a name."""

    name: str
    value: str


@dataclass(slots=True)
class Form:
    """A form as it stands on the page. `action` is absolute; `fields` are what it sends without anybody's doing."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[Button] = field(default_factory=list)

    def button(self, name: str, value: str) -> Button | None:
        """The button with this name and value."""
        return next((button for button in self.buttons if (button.name, button.value) == (name, value)), None)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was opened."""

    url: str
    status: int
    html: str
    forms: list[Form]
    links: list[str]
    text: str
    """What can be read on it, without scripts and styles."""

    def form_with(self, name: str, value: str) -> Form | None:
        """The first form that has such a button."""
        return next((form for form in self.forms if form.button(name, value)), None)


def page_of(answer: httpx.Response) -> Page:
    """Read an answer as a browser does."""
    url = str(answer.url)
    reader = _Reader(url)
    reader.feed(answer.text)
    reader.close()
    text = " ".join(" ".join(reader.words).split())
    return Page(url, answer.status_code, answer.text, reader.forms, reader.links, text)


async def open_page(http: httpx.AsyncClient, url: str) -> Page:
    """Type an address; redirects are followed."""
    return page_of(await http.get(url, follow_redirects=True))


async def send(http: httpx.AsyncClient, form: Form, button: Button | None = None) -> Page:
    """Press a button, or (without one) send the form as the page's own script does."""
    pressed = {button.name: button.value} if button is not None and button.name else {}
    return await _send(http, form, form.fields | pressed)


async def _send(http: httpx.AsyncClient, form: Form, fields: Mapping[str, str]) -> Page:
    if form.method == "get":
        return page_of(await http.get(form.action, params=dict(fields), follow_redirects=True))
    return page_of(await http.post(form.action, data=dict(fields), follow_redirects=True))


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._url = url
        self._open: Form | None = None
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        if tag in ("script", "style", "title"):
            self._hidden += 1
        elif tag == "a" and "href" in has:
            self.links.append(urljoin(self._url, has["href"]))
        elif tag == "form":
            self._open = Form(urljoin(self._url, has.get("action", "")), has.get("method", "get").lower())
            self.forms.append(self._open)
        elif self._open is not None:
            self._control(self._open, tag, has)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "title"):
            self._hidden -= 1
        elif tag == "form":
            self._open = None

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    def _control(self, form: Form, tag: str, has: dict[str, str]) -> None:
        kind = has.get("type", "submit" if tag == "button" else "text").lower()
        if tag not in ("button", "input") or "disabled" in has:
            return
        if kind == "submit":
            form.buttons.append(Button(has.get("name", ""), has.get("value", "")))
            return
        chosen = "checked" in has if kind in _CHOSEN_IF_CHECKED else kind not in _NOT_SENT
        if chosen and has.get("name"):
            form.fields[has["name"]] = has.get("value", "on" if kind in _CHOSEN_IF_CHECKED else "")
