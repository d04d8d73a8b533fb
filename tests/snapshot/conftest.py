"""Every law of the snapshots holds with both encoders."""

from __future__ import annotations

import pytest

from anysaga._snapshot import _codec, _text


@pytest.fixture(params=["orjson", "json"], autouse=True)
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Has the codecs of this test write with orjson, or as if it were not installed."""
    monkeypatch.setattr(_codec, "_codecs", {})
    if request.param == "json":
        monkeypatch.setattr(_codec, "quick_dumps", lambda: _text.dumps_bytes)
    return str(request.param)
