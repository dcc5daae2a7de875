"""Memory given back while a model trains."""

import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from course_utils.machine import page_out, trim

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page_out does nothing outside Linux")


@pytest.fixture
def mapped(tmp_path):
    """Return (tensor mapped from a file, a copy of its values)."""
    values = torch.arange(2_000_000, dtype=torch.float32)
    save_file({"w": values}, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        return file.get_tensor("w"), values


@linux
def test_a_weights_file_leaves_memory_and_comes_back_as_it_was(mapped):
    tensor, values = mapped
    assert tensor.sum() == values.sum()
    if not page_out([tensor]):
        pytest.skip("this safetensors copies weights instead of mapping them")
    assert torch.equal(tensor, values)


@linux
def test_a_changed_weight_is_not_lost(mapped):
    tensor, values = mapped
    tensor[1_000_000] = -1.0
    page_out([tensor])
    values[1_000_000] = -1.0
    assert torch.equal(tensor, values)


def test_plain_memory_is_left_alone():
    assert page_out([torch.zeros(2_000_000), torch.zeros(0)]) == 0
    trim()
