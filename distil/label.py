"""Label items with the teacher, shard by shard, so that training can start on the first ones.

python -m distil.label ITEMS.jsonl OUT [--shards 12]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from distil.teacher import Teacher

SHARD = 1000
LONG = 3  # shards with long passages; later ones are cut, their labels come a third faster


def trimmed(item):
    """Return ``item`` with its passage cut to 45 words or 75 Chinese characters."""
    passage = item["passage"]
    passage = passage[:75] if item["language"] == "zh" else " ".join(passage.split()[:45])
    return {**item, "passage": passage}


def label(items, teacher):
    """Return (query vectors [queries, 384], passage vectors [items, 384]) as float16."""
    queries = [q for i in items for q in i["queries"]]
    asked = teacher.query(queries, limit=48)
    told = teacher.passage([i["passage"] for i in items], limit=120)
    return asked.astype(np.float16), told.astype(np.float16)


def main(items_path, out, shards):
    """Write OUT/NNN.jsonl (items) and OUT/NNN.npz (vectors) for each shard that is not there yet."""
    torch.set_num_threads(1)
    items = [json.loads(line) for line in Path(items_path).open(encoding="utf-8")]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    teacher = Teacher()
    for n in range(min(shards, len(items) // SHARD)):
        if (out / f"{n:03}.npz").exists():
            continue
        started, own = time.time(), items[n * SHARD : (n + 1) * SHARD]
        own = own if n < LONG else [trimmed(i) for i in own]
        queries, passages = label(own, teacher)
        lines = "".join(json.dumps(i, ensure_ascii=False) + "\n" for i in own)
        (out / f"{n:03}.jsonl").write_text(lines, encoding="utf-8")
        np.savez(out / "half.npz", queries=queries, passages=passages)
        (out / "half.npz").rename(out / f"{n:03}.npz")
        print(f"shard {n}: {len(queries)} queries, {len(own)} passages, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("items")
    parser.add_argument("out")
    parser.add_argument("--shards", type=int, default=12)
    a = parser.parse_args()
    main(a.items, a.out, a.shards)
