from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _quick_clients(quick_clients: None) -> None: ...
