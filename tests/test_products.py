"""Products of fp32 matrices through the faster of torch's libraries: as exact, and nobody's settings change."""

import threading

import pytest
import torch

from course_utils import machine
from course_utils.model.reranker import Reranker
from course_utils.training.adaptation import adapt
from course_utils.training.recipe import Recipe


@pytest.fixture
def faster(monkeypatch):
    """Take oneDNN for faster, whatever chip this is."""
    monkeypatch.setattr(machine, "_onednn_is_faster", lambda: True)


def test_products_are_exact_where_the_switch_is_used():
    a, b = torch.rand(512, 192), torch.rand(192, 384)
    exact = a.double() @ b.double()
    with machine._fast_products("cpu"):
        assert ((a @ b) - exact).abs().max() / exact.abs().max() < 1e-5


def test_bf16_units_are_refused(monkeypatch):
    """On a chip that takes "medium" at its word products lose digits; the matrices here do."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    def rounding(precision):
        state["rough"] = precision == "medium"

    state = {"rough": False}
    product = torch.Tensor.__matmul__

    def rounded(a, b):
        out = product(a, b)
        return out.bfloat16().float() if state["rough"] else out

    monkeypatch.setattr(torch, "set_float32_matmul_precision", rounding)
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    ticks = iter(range(100_000))
    # Every second product, the one under "medium", takes a tick of 1 instead of 3: faster, and still refused.
    monkeypatch.setattr(machine.time, "perf_counter", lambda: next(ticks) * (1 if state["rough"] else 3))
    assert machine._onednn_is_faster.__wrapped__() is False
    assert not state["rough"]
    monkeypatch.setattr(torch.Tensor, "__matmul__", product)  # the same times without the rounding
    assert machine._onednn_is_faster.__wrapped__() is True


def test_the_switch_goes_back(faster):
    assert torch.get_float32_matmul_precision() == "highest"
    with machine._fast_products("cpu"):
        assert torch.get_float32_matmul_precision() == "medium"
        with machine._fast_products("cpu"):
            pass
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(ZeroDivisionError), machine._fast_products("cpu"):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_last_of_two_threads_puts_it_back(faster):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with machine._fast_products("cpu"):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with machine._fast_products("cpu"):
        thread.start()
        assert inside.wait(10)
    assert torch.get_float32_matmul_precision() == "medium"
    leave.set()
    thread.join()
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_precision_that_somebody_chose_stays(faster):
    torch.set_float32_matmul_precision("high")
    try:
        with machine._fast_products("cpu"):
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_gpu_is_left_alone(faster):
    with machine._fast_products("meta"):
        assert torch.get_float32_matmul_precision() == "highest"


def test_scoring_and_adapting_use_it(faster, monkeypatch, tiny, groups):
    chosen = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", chosen.append)
    tiny.score_groups(groups[:2])
    assert chosen == ["medium", "highest"]
    adapt(tiny, groups[:8], groups[8:12], Recipe(layers=1, epochs=1), quiet=True)
    assert chosen == ["medium", "highest"] * 2


def test_scores_are_the_same(monkeypatch):
    reranker = Reranker.load("nano", device="cpu", quiet=True)
    pairs = [("what helps against a cold", ["Rest and warm drinks." * 9, "A court of appeal." * 30])]
    monkeypatch.setattr(machine, "_onednn_is_faster", lambda: False)
    before = reranker.score_groups(pairs)[0]
    monkeypatch.undo()
    assert reranker.score_groups(pairs)[0] == pytest.approx(before, abs=1e-4)
