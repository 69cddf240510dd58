"""Lists, newest first, by the position of their last row: pages stay right while rows are added."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Select, tuple_

Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])


def newest_first(query: Query, table: Any, *, limit: int, before: tuple[datetime, UUID] | None) -> Query:
    """Order by the table's `created_at` and `id`; `before` is the position of the last row of the page before."""
    if before is not None:
        query = query.where(tuple_(table.created_at, table.id) < before)
    return query.order_by(table.created_at.desc(), table.id.desc()).limit(limit)
