"""Sagas in a SQL database, by SQLAlchemy Core."""

from __future__ import annotations

from anysaga._errors import MissingDriver

try:
    from anysaga.storages.sql._storage import SQLAlchemyStorage as SQLAlchemyStorage
except ModuleNotFoundError as error:
    if error.name != "sqlalchemy":
        raise
    raise MissingDriver("SQLAlchemyStorage", "sqlalchemy", "sql") from error
