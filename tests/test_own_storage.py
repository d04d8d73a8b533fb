"""The storage of the example keeps the contract."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from anysaga.testing import StorageConformance

if sys.platform == "win32":
    pytest.skip("the example needs fcntl", allow_module_level=True)

sys.path.append(str(Path(__file__).parent.parent / "examples"))

FolderStorage: Any = import_module("own_storage").FolderStorage


class TestFolderStorage(StorageConformance):
    def new_storage(self, directory: Path) -> Any:
        return FolderStorage(directory / "sagas")

    def twin(self, storage: Any) -> Any:
        return FolderStorage(storage.folder)

    async def die(self, storage: Any) -> None:
        storage.me.lose_all()
        storage.life.close()
        storage.__init__(storage.folder)  # born again, as somebody else
