"""States of the frozen layers: computed once, kept on disk, continued after a kill, thrown away when stale."""

import copy
import errno
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from conftest import ROOT, make_groups, tiny_model

from course_utils.errors import InputError
from course_utils.model.prompt import _EncodedGroups
from course_utils.model.reranker import Reranker
from course_utils.training import trunk as trunk_module
from course_utils.training.adaptation import adapt
from course_utils.training.batch import Source
from course_utils.training.recipe import Recipe
from course_utils.training.trunk import (
    _data_fingerprint,
    _fingerprint,
    _remove_stale,
    _to_array,
    _to_tensor,
    _Trunk,
    _trunk_name,
    build_trunk,
    trunk_megabytes,
)


def encode(reranker, groups):
    return reranker.encode(groups)


def all_states(trunk):
    return torch.cat([torch.cat([prefix, *own]) for prefix, own in map(trunk.group, range(len(trunk.encoded)))])


def check_against_transformers(trunk, model, layers, tolerance):
    for g in range(len(trunk.encoded)):
        prefix, candidates = trunk.group(g)
        for c, states in enumerate(candidates):
            with torch.no_grad():
                ids = torch.tensor([trunk.encoded.full_ids(g, c)])
                expected = model(ids, output_hidden_states=True).hidden_states[layers][0]
            got = torch.cat([trunk.constant, prefix, states])
            torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


def test_states_are_those_of_the_whole_prompts_in_transformers(tiny, groups, tmp_path):
    trunk = build_trunk(tiny.model, encode(tiny, groups), 2, tmp_path, batch_tokens=200, quiet=True)
    check_against_transformers(trunk, tiny.model, 2, 2e-5)


def test_cached_states_give_the_same_losses_as_the_plain_way(tokenizer, groups):
    runs = []
    for cache in (True, False):
        reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
        done = adapt(
            reranker,
            groups,
            None,
            Recipe(layers=1, epochs=4, learning_rate=3e-3, batch_queries=2, cache=cache, seed=1),
            quiet=True,
        )
        runs.append((done.batch_losses, [row["dev_loss"] for row in done.history]))
    assert len(runs[0][0]) >= 16
    assert np.ptp(runs[0][0]) > 0.1, "the losses move, so equal ones mean something"
    for with_cache, without in zip(*runs, strict=True):
        np.testing.assert_allclose(with_cache, without, atol=1e-4)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from conftest import make_groups, tiny_model
from transformers import AutoTokenizer
from course_utils.training import trunk
from course_utils.model.hub import BUNDLED
from course_utils.model.reranker import Reranker
tokenizer = AutoTokenizer.from_pretrained(BUNDLED["nano"], local_files_only=True)
reranker = Reranker(tiny_model(tokenizer), tokenizer, max_length=256)
encoded = reranker.encode(make_groups())
trunk.SAVE_SECONDS, compute, calls = 0, trunk._compute, []
def counted(*arguments):
    compute(*arguments)
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
trunk._compute = counted
trunk.build_trunk(reranker.model, encoded, 2, sys.argv[1], batch_tokens=100, quiet=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_killed_build_goes_on_where_it_was(tiny, groups, tmp_path, monkeypatch):
    command = [sys.executable, "-c", KILLED.format(tests=str(ROOT / "tests")), str(tmp_path)]
    killed = subprocess.run(command, cwd=ROOT, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    encoded = encode(tiny, groups)
    place = tmp_path / _trunk_name(_fingerprint(tiny.model, 2), encoded)
    done = trunk_module._done(place)
    assert 0 < len(done) < len(groups)
    computed, compute = [], trunk_module._compute
    monkeypatch.setattr(
        trunk_module, "_compute", lambda m, t, queries, *a: (computed.extend(queries), compute(m, t, queries, *a))
    )
    trunk = build_trunk(tiny.model, encoded, 2, tmp_path, batch_tokens=100, quiet=True)
    assert sorted(computed) == sorted(set(range(len(groups))) - done)
    check_against_transformers(trunk, tiny.model, 2, 2e-5)


def test_a_finished_file_is_used_again(tiny, groups, tmp_path, monkeypatch, capsys):
    encoded = encode(tiny, groups)
    first = all_states(build_trunk(tiny.model, encoded, 2, tmp_path, quiet=True))
    monkeypatch.setattr(trunk_module, "_compute", None)
    again = build_trunk(tiny.model, encode(tiny, groups), 2, tmp_path)
    assert torch.equal(all_states(again), first)
    assert capsys.readouterr().out == ""


def test_a_file_cut_short_is_made_again(tiny, groups, tmp_path):
    encoded = encode(tiny, groups)
    trunk = build_trunk(tiny.model, encoded, 2, tmp_path, quiet=True)
    whole = all_states(trunk)
    with trunk.path.open("r+b") as file:
        file.truncate(trunk.path.stat().st_size - 4)
    torch.testing.assert_close(all_states(build_trunk(tiny.model, encoded, 2, tmp_path, quiet=True)), whole)


def test_other_weights_other_settings_and_other_data_have_other_names(tiny, tokenizer, groups):
    encoded, same = encode(tiny, groups), tiny_model(tokenizer)
    assert _fingerprint(same, 2) == _fingerprint(tiny.model, 2)
    assert _fingerprint(same, 3) != _fingerprint(tiny.model, 2)
    assert _fingerprint(same.to(torch.bfloat16), 2) != _fingerprint(tiny.model, 2)
    other = tiny_model(tokenizer, rms_norm_eps=1e-5)
    assert _fingerprint(other, 2) != _fingerprint(tiny.model, 2)
    above, below = tiny_model(tokenizer), tiny_model(tokenizer)
    with torch.no_grad():
        above.model.layers[2].mlp.up_proj.weight[0, 0] += 1
        below.model.layers[1].mlp.up_proj.weight[0, 0] += 1
    assert _fingerprint(above, 2) == _fingerprint(tiny.model, 2), "what trains does not make the states stale"
    assert _fingerprint(below, 2) != _fingerprint(tiny.model, 2)
    assert _data_fingerprint(encode(tiny, groups)) == _data_fingerprint(encoded)
    assert _data_fingerprint(encode(tiny, groups[1:])) != _data_fingerprint(encoded)
    tiny.instruction = "Given a health question, retrieve medical passages that answer it"
    assert _data_fingerprint(encode(tiny, groups)) != _data_fingerprint(encoded)


def test_stale_files_are_removed_and_nothing_else_is(tiny, groups, tmp_path):
    work = tmp_path / "work"

    def files():
        adapt(tiny, groups[:8], groups[8:], Recipe(layers=1, epochs=1), work_dir=work, quiet=True)
        return {p.name for p in (work / "trunk").iterdir()}

    first = files()
    assert len(first) == 2, "train and dev"
    (work / "trunk" / "my-notes").mkdir()
    assert files() == {*first, "my-notes"}, "what trains has changed, the frozen layers have not"
    with torch.no_grad():
        tiny.model.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    second = files() - {"my-notes"}
    assert len(second) == 2
    assert not second & first
    groups[0] = groups[0].__class__(groups[0].query + "?", groups[0].documents, groups[0].relevance)
    third = files() - {"my-notes"}
    assert len(third) == 2
    assert len(third & second) == 1, "dev is the same"
    assert (work / "trunk" / "my-notes").is_dir()
    assert _remove_stale(tmp_path / "absent", []) == 0


def test_the_size_is_announced_before(tiny, groups, tmp_path, capsys, monkeypatch):
    said = []
    monkeypatch.setattr(trunk_module, "_compute", lambda *_: said.append(capsys.readouterr().out))
    encoded = encode(tiny, groups * 20)
    trunk = build_trunk(tiny.model, encoded, 2, tmp_path)
    mb = trunk_megabytes(encoded, 48, torch.float32)
    assert f"{trunk.offsets[-1]:,} tokens, {mb:.0f} MB in {tmp_path}" in said[0]
    assert mb > 1
    assert abs(sum(p.stat().st_size for p in trunk.path.parent.iterdir()) / 2**20 - mb) < 0.05


def test_a_disk_that_is_too_small_is_refused_and_nothing_is_written(tiny, groups, tmp_path, monkeypatch):
    monkeypatch.setattr(trunk_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**19))
    with pytest.raises(InputError, match=r"need 1 MB and .* has 0 MB free"):
        build_trunk(tiny.model, encode(tiny, groups * 10), 2, tmp_path / "deep" / "trunk", quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve room on a disk")
def test_room_that_cannot_be_reserved_is_refused(tiny, groups, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="No space left"):
        build_trunk(tiny.model, encode(tiny, groups), 2, tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


def resident_mb():
    return psutil.Process().memory_info().rss / 2**20


@pytest.mark.slow
def test_memory_does_not_grow_with_pairs_while_building(tokenizer, tmp_path):
    model = tiny_model(tokenizer, layers=2, hidden_size=256)
    reranker = Reranker(model, tokenizer, max_length=256)
    small, large = encode(reranker, make_groups(40)), encode(reranker, make_groups(1500, candidates=3))
    build_trunk(model, small, 1, tmp_path, batch_tokens=4096, quiet=True)
    before = resident_mb()
    trunk = build_trunk(model, large, 1, tmp_path, batch_tokens=4096, quiet=True)
    size = trunk.path.stat().st_size / 2**20
    assert size > 60
    assert resident_mb() - before < size / 4


@pytest.mark.slow
def test_memory_does_not_grow_with_pairs_while_reading(tmp_path):
    queries, length, hidden = 400, 50, 512
    ids = np.zeros(length, np.int32)
    encoded = _EncodedGroups(ids, [ids] * queries, [[ids] * 4] * queries)
    path = tmp_path / "states.bin"
    with path.open("wb") as file:
        for _ in range(queries):
            file.write(np.random.default_rng(0).standard_normal((5 * length, hidden), np.float32).tobytes())
    trunk = _Trunk(encoded, path, torch.float32, torch.zeros(length, hidden))
    labels = [SimpleNamespace(relevance=(1, 0, 0, 0))] * queries
    source = Source(labels, encoded, trunk)
    source.collate([0, 1])
    before, size = resident_mb(), path.stat().st_size / 2**20
    assert size > 150
    for g in range(0, queries, 2):
        source.collate([g, g + 1])
    assert resident_mb() - before < size / 8


def test_bf16_states_survive_the_way_to_disk_and_back(tokenizer, groups, tmp_path):
    values = torch.tensor([0.0, -0.0, 1.0, -1.5, 3e38, 1e-40, float("inf"), float("nan")]).to(torch.bfloat16)
    array = _to_array(values)
    assert array.dtype == np.uint16
    assert _to_tensor(array).dtype == torch.bfloat16
    assert torch.equal(_to_tensor(array).view(torch.int16), values.view(torch.int16))
    reranker = Reranker(tiny_model(tokenizer).to(torch.bfloat16), tokenizer, max_length=256)
    trunk = build_trunk(reranker.model, encode(reranker, groups[:3]), 2, tmp_path, quiet=True)
    assert trunk.path.stat().st_size == trunk.offsets[-1] * 48 * 2
    assert {t.dtype for t in (trunk.constant, *trunk.group(0)[1])} == {torch.bfloat16}
    reranker.model.set_attn_implementation("eager")  # which rounds attention scores to bf16, as is done here
    check_against_transformers(trunk, reranker.model, 2, 0.1)


def test_bf16_states_are_as_near_to_fp32_as_those_of_transformers(tokenizer, groups, tmp_path):
    """Two orders of the same sums round differently; what counts is how far each is from the sums in fp32."""
    reranker = Reranker(tiny_model(tokenizer).to(torch.bfloat16), tokenizer, max_length=256)
    exact = copy.deepcopy(reranker.model).float()
    trunk = build_trunk(reranker.model, encode(reranker, groups[:3]), 2, tmp_path, quiet=True)
    here, there = [], []
    for g, (prefix, candidates) in enumerate(map(trunk.group, range(len(trunk.encoded)))):
        for c, states in enumerate(candidates):
            ids = torch.tensor([trunk.encoded.full_ids(g, c)])
            with torch.no_grad():
                true, theirs = (m(ids, output_hidden_states=True).hidden_states[2][0] for m in (exact, reranker.model))
            here.append((torch.cat([trunk.constant, prefix, states]).float() - true).abs())
            there.append((theirs.float() - true).abs())
    assert torch.cat(here).mean() < 1.1 * torch.cat(there).mean()


def test_fp16_states_keep_their_type(tokenizer, groups, tmp_path):
    reranker = Reranker(tiny_model(tokenizer).to(torch.float16), tokenizer, max_length=256)
    trunk = build_trunk(reranker.model, encode(reranker, groups[:2]), 1, tmp_path, quiet=True)
    assert trunk.group(1)[0].dtype == torch.float16
    assert json.loads(next(trunk.path.parent.glob("done-*.json")).read_text()) == [0, 1]
