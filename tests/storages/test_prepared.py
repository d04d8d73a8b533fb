"""Statements that are fed with many rows at once."""

from __future__ import annotations

import sqlalchemy as sa

from anysaga.storages.sql._prepared import Bulk, CursorWire, lay


def test_no_statement_has_more_values_than_every_sqlite_takes() -> None:
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer), sa.Column("b", sa.Integer))
    with sa.create_engine("sqlite://").connect() as connection:
        lay(CursorWire(lambda: None), connection)
        commands = Bulk(sa.insert(table), ["a", "b"]).commands(connection, [(1, 2)] * 50_000)
    sizes = [len(values) for _, values in commands]
    assert sum(sizes) == 100_000
    assert max(sizes) <= 32_766
