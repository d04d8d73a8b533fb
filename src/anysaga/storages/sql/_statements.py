"""The SQL of the verbs, built once. Bound names begin with ``b_``, since SQLAlchemy keeps the columns' own names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from anysaga.storages.sql._prepared import Prepared
from anysaga.storages.sql._tables import Tables

_ZERO: sa.ColumnElement[int] = sa.literal_column("0", sa.Integer)
_ONE: sa.ColumnElement[int] = sa.literal_column("1", sa.Integer)

MOST_IDS = 512
"""Ids that one query for `positions` takes at most."""


class Statements:
    """Prebuilt statements on the tables of one prefix, named after what they do."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._build_owners(tables.owners, tables.sagas)
        self._build_claims(tables.sagas)
        self._build_writes(tables)
        self._build_reads(tables)

    def find(self, name: str | None, state: str | None, limit: int, after: str) -> sa.Select[Any]:
        """Summaries of one name (None: any) and one state (None: any), by id."""
        sagas = self._tables.sagas
        query = self._summaries.where(sagas.c.id > after).order_by(sagas.c.id).limit(limit)
        if name is not None:
            query = query.where(sagas.c.name == name)
        if state is not None:
            query = query.where(sagas.c.state == state)
        return query

    def positions(self, ids: Sequence[str]) -> tuple[Prepared, dict[str, str]]:
        """The positions of up to `MOST_IDS` sagas, and the values. Few sizes, so that few statements are compiled."""
        size = 1 << (len(ids) - 1).bit_length()
        padded = itertools.chain(ids, itertools.repeat(ids[-1], size - len(ids)))
        return self._positions(size), {f"b_{n}": saga_id for n, saga_id in enumerate(padded)}

    def _build_owners(self, owners: sa.Table, sagas: sa.Table) -> None:
        self.insert_owner = sa.insert(owners)
        self.renew = (
            sa.update(owners).where(owners.c.id == b("b_id"), owners.c.dead == 0).values(expires_at=b("b_expires"))
        )
        self.alive = Prepared(
            sa.select(owners.c.id).where(
                owners.c.id == b("b_id"), owners.c.dead == _ZERO, owners.c.expires_at >= b("b_now")
            )
        )
        self.mark_dead = sa.update(owners).where(owners.c.dead == 0, owners.c.expires_at < b("b_now")).values(dead=1)
        self.forget_dead = sa.delete(owners).where(owners.c.dead == 1, owners.c.expires_at < b("b_before"))
        self.leave = sa.delete(owners).where(owners.c.id == b("b_id"))
        living = sa.select(owners.c.id).where(owners.c.dead == 0)
        self._is_free = sa.or_(sagas.c.owner.is_(None), sagas.c.owner.not_in(living))

    def _build_claims(self, sagas: sa.Table) -> None:
        taken = {"owner": b("b_owner"), "fence": sagas.c.fence + 1, "claims": sagas.c.claims + 1}
        self.claim = (
            sa.update(sagas)
            .where(sagas.c.id == b("b_id"), sagas.c.state.in_(b("b_states", expanding=True)), self._is_free)
            .values(taken)
        )
        self.due = (
            sa.select(sagas.c.id, sagas.c.claims)
            .where(
                sagas.c.live == 1,
                sagas.c.next_attempt_at <= b("b_now"),
                sagas.c.name.in_(b("b_names", expanding=True)),
                self._is_free,
            )
            .order_by(sagas.c.next_attempt_at, sagas.c.id)
            .limit(b("b_limit", type_=sa.Integer))
        )
        self.claim_due = (
            sa.update(sagas).where(sagas.c.id == b("b_id")).values({**taken, "next_attempt_at": b("b_next")})
        )
        self.release = Prepared(
            sa.update(sagas)
            .where(sagas.c.id == b("b_id"), sagas.c.fence == b("b_fence"), sagas.c.owner.is_not(None))
            .values(
                owner=sa.null(),
                claims=sa.case((sagas.c.claims > _ZERO, sagas.c.claims - _ONE), else_=_ZERO),
                next_attempt_at=b("b_next"),
            )
        )

    def _build_writes(self, tables: Tables) -> None:
        sagas = tables.sagas
        self.insert_saga = Prepared(sa.insert(sagas))
        self.insert_start = Prepared(sa.insert(tables.starts))
        self.insert_entries = Prepared(sa.insert(tables.entries))
        self.advance = Prepared(
            sa.update(sagas)
            .where(sagas.c.id == b("b_id"), sagas.c.fence == b("b_fence"), sagas.c.seq == b("b_before"))
            .values(
                seq=b("b_after"),
                state=b("b_state"),
                live=b("b_live"),
                updated_at=b("b_now"),
                ended_at=b("b_ended"),
                next_attempt_at=b("b_next"),
                note=b("b_note"),
                claims=sa.case((b("b_settles", type_=sa.Integer) == _ONE, _ZERO), else_=sagas.c.claims),
                owner=sa.case((b("b_frees", type_=sa.Integer) == _ONE, sa.null()), else_=sagas.c.owner),
            )
        )
        self.park = (
            sa.update(sagas)
            .where(sagas.c.id == b("b_id"))
            .values(state="PARKED", live=0, owner=None, updated_at=b("b_now"), ended_at=b("b_now"), note=b("b_note"))
        )
        self.delete = [
            sa.delete(tables.entries).where(tables.entries.c.saga_id == b("b_id")),
            sa.delete(tables.starts).where(tables.starts.c.saga_id == b("b_id")),
            sa.delete(sagas).where(sagas.c.id == b("b_id")),
        ]

    def _build_reads(self, tables: Tables) -> None:
        sagas, starts, owners, entries = tables.sagas, tables.starts, tables.owners, tables.entries
        with_owner = sagas.outerjoin(owners, sa.and_(owners.c.id == sagas.c.owner, owners.c.dead == _ZERO))
        label = owners.c.label.label("owner_label")
        self._summaries = sa.select(sagas, label).select_from(with_owner)
        self._positions = cache(partial(_positions, sagas))
        self.load = Prepared(
            sa.select(sagas, label, starts.c.outline, starts.c.digest, starts.c.context)
            .select_from(with_owner.outerjoin(starts, starts.c.saga_id == sagas.c.id))
            .where(sagas.c.id == b("b_id"))
        )
        log = sa.select(entries).where(entries.c.saga_id == b("b_id")).order_by(entries.c.seq)
        self.log = Prepared(log)
        self.tail = Prepared(log.where(entries.c.seq >= b("b_first")))
        self.ended = (
            sa.select(sagas.c.id, sagas.c.ended_at)
            .where(sagas.c.state == b("b_state"), sagas.c.ended_at < b("b_before"))
            .order_by(sagas.c.ended_at, sagas.c.id)
            .limit(b("b_limit", type_=sa.Integer))
        )


def _positions(sagas: sa.Table, size: int) -> Prepared:
    ids = [b(f"b_{n}", type_=sa.String) for n in range(size)]
    return Prepared(sa.select(sagas.c.id, sagas.c.fence, sagas.c.seq).where(sagas.c.id.in_(ids)).order_by(sagas.c.id))
