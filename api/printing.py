"""Names that documents must carry, judged before anything is made that would print them."""

from __future__ import annotations

from collections.abc import Mapping

from api.problems import Problem
from receipts.text import undrawable


def check_names(names: Mapping[str, str | None]) -> None:
    """Raise Problem when a tax document could not show one of these, by field: it would carry another name.

    Other texts are printed with a sign in place of what no font has. The answer does not repeat what was sent.
    """
    for field, name in names.items():
        place = None if not name else undrawable(name)
        if place is None:
            continue
        fault = f"no font of the documents has its character {place}" if place else "nothing of it can be seen"
        detail = (
            f"{field}: {fault}; a tax document must carry the name as it is. Write it in letters that can be printed."
        )
        raise Problem("name_not_printable", detail, field=field, errors=[{"field": field, "message": fault}])
