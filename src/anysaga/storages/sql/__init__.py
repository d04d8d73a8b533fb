"""Sagas in a SQL database, by SQLAlchemy Core."""

from __future__ import annotations

from anysaga.storages.sql._storage import SQLAlchemyStorage

__all__ = ["SQLAlchemyStorage"]
