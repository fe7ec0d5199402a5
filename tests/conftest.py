import os
import signal

import pytest
from hypothesis import settings

# A test that takes longer on a busy machine is not a wrong one. Every run looks at other examples; those who ask for
# the large ones get many more.
settings.register_profile("ours", deadline=None, max_examples=500 if os.environ.get("METERVEIL_TEST_LARGE") else 15)
settings.load_profile("ours")


@pytest.fixture
def heard():
    """An interruption is heard: whoever runs the tests in the background may have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
