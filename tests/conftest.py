"""What all tests share."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data; a test that asks for it is skipped where VTG_DATA_ROOT is not set."""
    root = os.environ.get("VTG_DATA_ROOT")
    if not root:
        pytest.skip("VTG_DATA_ROOT is not set")
    return Path(root)
