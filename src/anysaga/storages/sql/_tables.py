"""The tables, the same on every database: text and whole numbers, moments in microseconds UTC."""

from __future__ import annotations

import re

import sqlalchemy as sa

from anysaga._errors import InvalidArgument
from anysaga._limits import MAX_DESTINATION, MAX_SAGA_ID

SCHEMA_VERSION = 2
"""Raised with every change of the tables below."""

_MAX_CIRCUIT = 700  # the name of a saga and the path of a step; MySQL has keys of up to 768 characters
_MOST = 2**32 - 1
_TEXT = sa.Text().with_variant(sa.Text(_MOST), "mysql", "mariadb")  # their TEXT ends at 64 KiB
_PREFIX = re.compile(r"[a-z_][a-z0-9_]{0,47}")


class Tables:
    """The tables of one prefix.

    `sagas` holds what changes and is small, `starts` what a saga began with: SQLite rewrites a whole row on UPDATE.
    The flags `live` and `dead` are 0 or 1, so that an index serves them everywhere.

    Raises `InvalidArgument` if the prefix is not lower-case letters, digits and underscores.
    """

    def __init__(self, prefix: str) -> None:
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise InvalidArgument("table_prefix", prefix, f"it must match {_PREFIX.pattern}")
        self.metadata = sa.MetaData()
        self.meta = _table(
            self.metadata,
            f"{prefix}meta",
            sa.Column("name", _string(32), primary_key=True),
            sa.Column("value", sa.BigInteger, nullable=False),
        )
        self.owners = _table(
            self.metadata,
            f"{prefix}owners",
            sa.Column("id", _string(32), primary_key=True),
            sa.Column("label", _string(200), nullable=False),
            sa.Column("expires_at", sa.BigInteger, nullable=False),
            sa.Column("dead", sa.SmallInteger, nullable=False),
        )
        self.sagas = _table(
            self.metadata,
            f"{prefix}sagas",
            sa.Column("id", _string(MAX_SAGA_ID), primary_key=True),
            sa.Column("name", _string(200), nullable=False),
            sa.Column("version", sa.BigInteger, nullable=False),
            sa.Column("state", _string(16), nullable=False),
            sa.Column("live", sa.SmallInteger, nullable=False),
            sa.Column("owner", _string(32)),
            sa.Column("fence", sa.BigInteger, nullable=False),
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("claims", sa.BigInteger, nullable=False),
            sa.Column("created_at", sa.BigInteger, nullable=False),
            sa.Column("updated_at", sa.BigInteger, nullable=False),
            sa.Column("next_attempt_at", sa.BigInteger, nullable=False),
            sa.Column("deadline", sa.BigInteger),
            sa.Column("ended_at", sa.BigInteger),
            sa.Column("note", _TEXT),
            sa.Index(f"{prefix}sagas_due", "live", "next_attempt_at", "id"),
            sa.Index(f"{prefix}sagas_ended", "state", "ended_at"),
            sa.Index(f"{prefix}sagas_state", "state", "id"),
            sa.Index(f"{prefix}sagas_name", "name", "state", "id"),
        )
        self.starts = _table(
            self.metadata,
            f"{prefix}starts",
            sa.Column("saga_id", _string(MAX_SAGA_ID), primary_key=True),
            sa.Column("outline", _TEXT, nullable=False),
            sa.Column("digest", _TEXT, nullable=False),
            sa.Column("context", _TEXT, nullable=False),
        )
        self.circuits = _table(
            self.metadata,
            f"{prefix}circuits",
            sa.Column("name", _string(_MAX_CIRCUIT), primary_key=True),
            sa.Column("version", sa.BigInteger, nullable=False),
            sa.Column("text", _TEXT, nullable=False),
            sa.Column("updated_at", sa.BigInteger, nullable=False),
        )
        self.outbox = _table(
            self.metadata,
            f"{prefix}outbox",
            sa.Column("saga_id", _string(MAX_SAGA_ID), primary_key=True),
            sa.Column("destination", _string(MAX_DESTINATION), primary_key=True),
            sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("event_id", _TEXT, nullable=False),
            sa.Column("type", _string(200), nullable=False),
            sa.Column("data", _TEXT, nullable=False),
            sa.Column("saga", _string(200), nullable=False),
            sa.Column("step", _string(200), nullable=False),
            sa.Column("at", sa.BigInteger, nullable=False),
            sa.Column("state", sa.SmallInteger, nullable=False),
            sa.Column("due_at", sa.BigInteger, nullable=False),
            sa.Column("attempts", sa.BigInteger, nullable=False),
            sa.Column("lease", sa.BigInteger, nullable=False),
            sa.Column("error", _TEXT),
            sa.Index(f"{prefix}outbox_due", "destination", "state", "due_at", "saga_id"),
        )
        self.entries = _table(
            self.metadata,
            f"{prefix}entries",
            sa.Column("saga_id", _string(MAX_SAGA_ID), primary_key=True),
            sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("kind", _string(16), nullable=False),
            sa.Column("path", _TEXT, nullable=False),
            sa.Column("attempt", sa.BigInteger, nullable=False),
            sa.Column("context", _TEXT),
            sa.Column("response", _TEXT),
            sa.Column("error", _TEXT),
            sa.Column("outcome", _string(16)),
            sa.Column("wait", sa.Double),
            sa.Column("caught", _TEXT),
            sa.Column("duration", sa.Double),
            sa.Column("fence", sa.BigInteger, nullable=False),
            sa.Column("at", sa.BigInteger, nullable=False),
        )


def _string(length: int) -> sa.String:
    # Everywhere in the order of code points, as Python and SQLite have it; PostgreSQL would go by some language.
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def _table(metadata: sa.MetaData, name: str, *parts: sa.schema.SchemaItem) -> sa.Table:
    # On SQLite the rows live in the tree of the key itself: one page less to write for each of them.
    return sa.Table(name, metadata, *parts, sqlite_with_rowid=False)
