"""The SQL of the verbs, built once. Bound names begin with ``b_``, since SQLAlchemy keeps the columns' own names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam as b

from anysaga.storages.sql._advancing import ONE, ZERO, advance, changes_of
from anysaga.storages.sql._at_once import AtOnce
from anysaga.storages.sql._prepared import Bulk, Prepared
from anysaga.storages.sql._rows import ADVANCES
from anysaga.storages.sql._tables import Tables

MOST_IDS = 512
"""Ids that one query for `positions` takes at most."""


class Statements:
    """Prebuilt statements on the tables of one prefix, named after what they do."""

    def __init__(self, tables: Tables, *, locks_rows: bool, updates_from_rows: bool, takes_json: bool = False) -> None:
        self._tables = tables
        self._locks_rows = locks_rows
        self._updates_from_rows = updates_from_rows
        self._build_owners(tables.owners, tables.sagas)
        self._build_claims(tables.sagas)
        self._build_writes(tables)
        self._build_reads(tables)
        self.at_once = AtOnce(tables) if takes_json else None

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
        """The positions of up to `MOST_IDS` sagas, and the values."""
        return self._positions(_size(ids)), _padded(ids)

    def locked_positions(self, ids: Sequence[str]) -> tuple[Prepared, dict[str, str]]:
        """The same, locked until the transaction ends, without those that another transaction has locked."""
        return self._locked_positions(_size(ids)), _padded(ids)

    def loads(self, ids: Sequence[str]) -> tuple[Prepared, Prepared, dict[str, str]]:
        """Up to `MOST_IDS` whole sagas, their logs, and the values of both queries."""
        size = _size(ids)
        return self._loads(size), self._logs(size), _padded(ids)

    def _build_owners(self, owners: sa.Table, sagas: sa.Table) -> None:
        self.insert_owner = sa.insert(owners)
        self.renew = (
            sa.update(owners).where(owners.c.id == b("b_id"), owners.c.dead == 0).values(expires_at=b("b_expires"))
        )
        self.alive = Prepared(
            sa.select(owners.c.id).where(
                owners.c.id == b("b_id"), owners.c.dead == ZERO, owners.c.expires_at >= b("b_now")
            )
        )
        past = sa.select(owners.c.id).where(owners.c.expires_at < b("b_before")).order_by(owners.c.id)
        self.expired = past.where(owners.c.dead == 0).with_for_update(skip_locked=True)
        self.long_dead = past.where(owners.c.dead == 1).with_for_update(skip_locked=True)
        self.mark_dead = sa.update(owners).where(owners.c.id == b("b_id")).values(dead=1)
        self.leave = sa.delete(owners).where(owners.c.id == b("b_id"))
        living = sa.select(owners.c.id).where(owners.c.dead == 0)
        self.living = sa.select(owners.c.id, owners.c.label).where(
            owners.c.dead == 0, owners.c.id.in_(b("b_ids", expanding=True))
        )
        self._is_free = sa.or_(sagas.c.owner.is_(None), sagas.c.owner.not_in(living))

    def _build_claims(self, sagas: sa.Table) -> None:
        taken = {"owner": b("b_owner"), "fence": sagas.c.fence + 1, "claims": sagas.c.claims + 1}
        self.lock = sa.select(sagas.c.owner, sagas.c.state).where(sagas.c.id == b("b_id")).with_for_update()
        self.claim = sa.update(sagas).where(sagas.c.id == b("b_id")).values(taken)
        self.due = (
            sa.select(sagas.c.id, sagas.c.claims, sagas.c.owner)
            .where(
                sagas.c.live == 1,
                sagas.c.next_attempt_at <= b("b_now"),
                sagas.c.name.in_(b("b_names", expanding=True)),
                self._is_free,
            )
            .order_by(sagas.c.next_attempt_at, sagas.c.id)
            .limit(b("b_limit", type_=sa.Integer))
            .with_for_update(skip_locked=True)
        )
        some = sagas.c.id.in_(b("b_ids", expanding=True))
        self.claim_due = sa.update(sagas).where(some).values({**taken, "next_attempt_at": b("b_next")})
        given_back = (
            sa.update(sagas)
            .where(sagas.c.id == b("b_id"), sagas.c.fence == b("b_fence"))
            .values(
                owner=sa.null(),
                claims=sa.case((sagas.c.claims > ZERO, sagas.c.claims - ONE), else_=ZERO),
                next_attempt_at=b("b_next"),
            )
        )
        self.release = Prepared(given_back.where(sagas.c.owner.is_not(None)))
        self.disown = Prepared(given_back.where(sagas.c.owner == b("b_owner")))

    def _build_writes(self, tables: Tables) -> None:
        sagas = tables.sagas
        self.insert_sagas = Bulk(sa.insert(sagas), sagas.c.keys())
        self.insert_starts = Bulk(sa.insert(tables.starts), tables.starts.c.keys())
        self.insert_entries = Bulk(sa.insert(tables.entries), tables.entries.c.keys())
        new = {name: b(name, type_=kind) for name, kind in ADVANCES.items()}
        self.advance = Prepared(advance(sagas, new), list(ADVANCES))
        self.advance_all = self.advance
        if self._updates_from_rows:
            changes = _changes(sagas.alias("locked")) if self._locks_rows else _changes(None)
            self.advance_all = Bulk(advance(sagas, dict(changes.c)), list(ADVANCES))
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
        with_owner = sagas.outerjoin(owners, sa.and_(owners.c.id == sagas.c.owner, owners.c.dead == ZERO))
        label = owners.c.label.label("owner_label")
        self._summaries = sa.select(sagas, label).select_from(with_owner)
        positions = sa.select(sagas.c.id, sagas.c.fence, sagas.c.seq).order_by(sagas.c.id)
        whole = sa.select(sagas, label, starts.c.outline, starts.c.digest, starts.c.context).select_from(
            with_owner.outerjoin(starts, starts.c.saga_id == sagas.c.id)
        )
        log = sa.select(entries).order_by(entries.c.saga_id, entries.c.seq)
        locked = positions.with_for_update(skip_locked=True)
        self._positions = cache(partial(_of_sagas, positions, sagas.c.id))
        self._locked_positions = cache(partial(_of_sagas, locked, sagas.c.id))
        self._loads = cache(partial(_of_sagas, whole, sagas.c.id))
        self._logs = cache(partial(_of_sagas, log, entries.c.saga_id))
        self.tail = Prepared(log.where(entries.c.saga_id == b("b_id"), entries.c.seq >= b("b_first")))
        undelivered = sa.exists(sa.literal_column("1")).where(tables.outbox.c.saga_id == sagas.c.id)
        self.ended = (
            sa.select(sagas.c.id, sagas.c.ended_at)
            .where(sagas.c.state == b("b_state"), sagas.c.ended_at < b("b_before"), ~undelivered)
            .order_by(sagas.c.ended_at, sagas.c.id)
            .limit(b("b_limit", type_=sa.Integer))
            .with_for_update(skip_locked=True)
        )


def _changes(locked: sa.FromClause | None) -> sa.Subquery:
    """Rows of new values, given as parameters.

    A statement with them begins with UPDATE, not with its common table: else `sqlite3` does not count what it meets.
    """
    rows = sa.values(*(sa.column(name, kind) for name, kind in ADVANCES.items()), name="rows")
    given = rows.data([tuple(b(name, type_=kind) for name, kind in ADVANCES.items())]).cte("given", nesting=True)
    return changes_of(given, locked)


def _of_sagas(query: Any, key: sa.ColumnElement[str], size: int) -> Prepared:
    return Prepared(query.where(key.in_([b(f"b_{n}", type_=sa.String) for n in range(size)])))


def _size(ids: Sequence[str]) -> int:
    """Few sizes, so that few statements are compiled."""
    return 1 << (len(ids) - 1).bit_length()


def _padded(ids: Sequence[str]) -> dict[str, str]:
    padded = itertools.chain(ids, itertools.repeat(ids[-1], _size(ids) - len(ids)))
    return {f"b_{n}": saga_id for n, saga_id in enumerate(padded)}
