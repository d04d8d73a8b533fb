"""The laws of `anysaga.abc.Storage`, as tests."""

from __future__ import annotations

from anysaga.testing._storage._claiming import ClaimingLaws
from anysaga.testing._storage._ending import EndingLaws
from anysaga.testing._storage._harness import StorageHarness
from anysaga.testing._storage._keeping import KeepingLaws
from anysaga.testing._storage._racing import RacingLaws
from anysaga.testing._storage._reading import ReadingLaws
from anysaga.testing._storage._taking_over import TakingOverLaws
from anysaga.testing._storage._turns import TurnLaws
from anysaga.testing._storage._writing import WritingLaws


class StorageConformance(
    KeepingLaws,
    WritingLaws,
    ClaimingLaws,
    TakingOverLaws,
    TurnLaws,
    EndingLaws,
    ReadingLaws,
    RacingLaws,
    StorageHarness,
):
    """Every law of the contract, one test each. Subclass it and say how your store is made.

        class TestMyStorage(StorageConformance):
            def new_storage(self, directory: Path) -> MyStorage:
                return MyStorage(directory / "sagas")

            def twin(self, storage: MyStorage) -> MyStorage:
                return MyStorage(storage.path)

            async def die(self, storage: MyStorage) -> None:
                await storage.expire_my_lease()

    A test fails with the law in its docstring. No test waits for time to pass.
    """


__all__ = ["StorageConformance"]
