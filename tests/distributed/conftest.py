import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The loss modules as their users have them, a package beside the script; and the helpers of this folder. Worker
# processes inherit this path.
HERE = Path(__file__).parent
for folder in (HERE, HERE.parents[1] / "templates"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # the models are tiny, and the ranks share the machine

from gloo_pool import GlooPool  # noqa: E402


@pytest.fixture(scope="session")
def pool() -> Iterator[GlooPool]:
    pool = GlooPool()
    yield pool
    pool.close()
