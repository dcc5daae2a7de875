"""Label items with the teacher, shard by shard, so that training can start on the first ones."""

import json
import time
from pathlib import Path

import numpy as np

from course_utils.bonus.peers import side_by_side
from course_utils.bonus.teacher import Teacher
from course_utils.errors import InputError
from course_utils.files import _write_lines, lock, whole

SHARD = 1000
LONG = 3  # shards with long passages; later ones are cut, their labels come a third faster


def trimmed(item):
    """Return ``item`` with its passage cut to 45 words or 75 Chinese characters."""
    passage = item["passage"]
    passage = passage[:75] if item["language"] == "zh" else " ".join(passage.split()[:45])
    return {**item, "passage": passage}


def label_items(path, out, shards, processes=1):
    """Write out/NNN.jsonl (items) and out/NNN.npz (the teacher's vectors) for each shard that is not there yet.

    Args:
        path: items, one a line (``texts.choose``).
        out: folder of the shards.
        shards: how many, of SHARD items each; the last items may not fill one.
        processes: how many label side by side.

    Raises:
        InputError: no items there, or too few for one shard.
    """
    if not Path(path).is_file():
        raise InputError("There is no {path}; run the step items first.", path=path)
    with Path(path).open(encoding="utf-8") as file:
        items = [json.loads(line) for line in file]
    if len(items) < SHARD:
        raise InputError(
            "{path} holds {n_items} items; {shard} are needed, so give more text.",
            path=path,
            n_items=len(items),
            shard=SHARD,
        )
    if shards > (full := len(items) // SHARD):
        print(f"{path} holds {full} of {shards} shards; move it away to draw more text.", flush=True)
    wanted = [n for n in range(min(shards, full)) if not (Path(out) / f"{n:03}.npz").exists()]
    if not wanted:
        return
    with lock(out):
        side_by_side(label_some, processes, items, Path(out), wanted)


def label_some(peers, items, out, wanted):
    """Label this process's part of the shards that are wanted."""
    teacher = Teacher()
    for n in wanted[peers.rank :: peers.count]:
        started, own = time.time(), items[n * SHARD : (n + 1) * SHARD]
        own = own if n < LONG else [trimmed(i) for i in own]
        queries = teacher.query([q for i in own for q in i["queries"]], limit=48).astype(np.float16)
        passages = teacher.passage([i["passage"] for i in own], limit=120).astype(np.float16)
        _write_lines(out / f"{n:03}.jsonl", own)
        with whole(out / f"{n:03}.npz", "wb") as file:
            np.savez(file, queries=queries, passages=passages)
        print(f"shard {n}: {len(queries)} queries, {len(own)} passages, {time.time() - started:.0f} s", flush=True)
