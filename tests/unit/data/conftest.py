import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_stream() -> Iterator[None]:
    yield
    assert "click-log-reader" not in {thread.name for thread in threading.enumerate()}
