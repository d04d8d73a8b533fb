"""MySQL and MariaDB, by PyMySQL in threads."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import sqlalchemy as sa

from anysaga._errors import StorageUnavailable
from anysaga.storages.sql._prepared import CursorWire, Wire
from anysaga.storages.sql._server import READ_ONLY, ServerDatabase, driver_of, shut_down

_LOCK = "anysaga tables"
_LONGEST = 2**18
"""Characters, of which each takes up to four bytes: the server takes no more at once than `max_allowed_packet`."""


class MySQLDatabase(ServerDatabase):
    """A MySQL or MariaDB server."""

    updates_from_rows = False
    moment = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
    # https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
    refusals = {
        "1045": "user or password is wrong",
        "1698": "user or password is wrong",
        "1044": "this user may not use that database",
        "1142": "this user lacks a right that it needs: to read and write the tables, and to create them at first",
        "1049": "there is no such database: create it first",
        "1146": "its tables are gone",
        "1054": "its tables are not those of anysaga",
        "1290": READ_ONLY,
        "1792": READ_ONLY,
        "1836": READ_ONLY,
    }
    read_only = re.compile("1290|1792|1836")
    misfits = re.compile("1264|1366|1406|1153|1118|.* can not be used with MySQL")  # PyMySQL of NaN, without a code
    faults_of_rows = re.compile(f"1062|1205|1213|1020|{misfits.pattern}")

    @contextmanager
    def alone(self, connection: sa.Connection) -> Iterator[None]:
        # The creation of a table ends a transaction here, so a lock of the transaction would be gone with it.
        if connection.scalar(sa.select(sa.func.get_lock(_LOCK, math.ceil(self.patience)))) != 1:
            raise StorageUnavailable(self.address, "another process is still creating its tables")
        try:
            yield
            connection.exec_driver_sql("COMMIT")  # while the lock is held: who comes next must see what was done
        finally:
            connection.scalar(sa.select(sa.func.release_lock(_LOCK)))

    def create_tables(self, connection: sa.Connection, tables: Iterable[sa.Table]) -> None:
        dialect: Any = connection.dialect
        # Keys differ if they differ at all, by a space at their end, too: the names of such collations differ.
        collation = "utf8mb4_nopad_bin" if dialect.is_mariadb else "utf8mb4_0900_bin"
        known = list(tables)
        for table in known:
            options = table.dialect_options[dialect.name]
            options["engine"], options["charset"], options["collate"] = "InnoDB", "utf8mb4", collation
        super().create_tables(connection, known)
        for index in chain.from_iterable(table.indexes for table in known):
            index.create(connection, checkfirst=True)  # one by one, so who died in the middle may have left them out

    def settings(self, connection: sa.Connection) -> list[str]:
        dialect: Any = connection.dialect
        settings = [f"SET SESSION innodb_lock_wait_timeout = {max(math.floor(self.patience), 1)}"]
        if dialect.is_mariadb:
            settings.append(f"SET SESSION idle_transaction_timeout = {max(math.floor(self.idle), 1)}")
        return settings

    def connect(self, *, writes: bool, made: Callable[[Any], None]) -> sa.Connection:
        connection = super().connect(writes=writes, made=made)
        # That was for connecting, of which PyMySQL has no other limit; statements may take longer, and are watched.
        driver = driver_of(connection)
        driver._read_timeout = driver._write_timeout = None
        return connection

    def wire(self, connection: sa.Connection) -> Wire:
        return CursorWire(driver_of(connection).cursor, longest=_LONGEST)

    def break_off(self, driver: Any) -> None:
        end = driver._sock
        if end is not None:
            shut_down(end.fileno)

    def code_of(self, error: BaseException) -> str:
        return str(error.args[0]) if error.args else ""

    def is_open(self, driver: Any) -> bool:
        return bool(driver.open)
