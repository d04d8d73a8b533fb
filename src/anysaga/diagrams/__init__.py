"""Pictures of sagas, made from their definitions alone: nothing is run, and no storage is needed."""

from __future__ import annotations

from anysaga.diagrams._mermaid import SagaMermaid as SagaMermaid

SagaMermaid.__module__ = __name__
