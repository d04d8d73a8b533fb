"""How writes bring the rows of their sagas forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from anysaga.storages.sql._prepared import literal

ZERO, ONE = literal(0), literal(1)


def changes_of(given: sa.FromClause, locked: sa.FromClause | None) -> sa.Subquery:
    """Rows of new values; only for those sagas that can be locked at once, if they are to be locked."""
    query = sa.select(given)
    if locked is not None:
        query = query.join_from(given, locked, locked.c.id == given.c.b_id).order_by(locked.c.id)
        query = query.with_for_update(of=locked, skip_locked=True)
    return query.subquery("changes")


def advance(sagas: sa.Table, new: Mapping[str, sa.ColumnElement[Any]]) -> sa.Update:
    """What writes make of their sagas' rows, where they find them as they expect them."""
    return (
        sa.update(sagas)
        .where(sagas.c.id == new["b_id"], sagas.c.fence == new["b_fence"], sagas.c.seq == new["b_before"])
        .values(
            seq=new["b_after"],
            state=new["b_state"],
            live=new["b_live"],
            updated_at=new["b_now"],
            ended_at=new["b_ended"],
            next_attempt_at=new["b_next"],
            note=new["b_note"],
            claims=sa.case((new["b_settles"] == ONE, ZERO), else_=sagas.c.claims),
            owner=sa.case((new["b_frees"] == ONE, sa.null()), else_=sagas.c.owner),
        )
    )
