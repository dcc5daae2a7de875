"""Query groups with their token ids or cached states, drawn and collated to tensors."""

import random
from dataclasses import dataclass

import numpy as np
import torch

from course_utils.model.forward import build_segments, pad_rows


@dataclass
class Source:
    """Groups with their token ids and, where layers are frozen, the trunk that holds their states."""

    groups: list
    encoded: object
    trunk: object = None

    def draw(self, batch, negatives, seed):
        """Return [(query index, [candidate index, ...])]: all right documents and at most ``negatives`` others by chance.

        The choice depends on ``seed`` and the query alone, so that a resumed run and several processes make the same one.
        """
        out = []
        for g in batch:
            relevance = self.groups[g].relevance
            wrong = [c for c, r in enumerate(relevance) if r <= 0]
            if negatives is not None and negatives < len(wrong):
                wrong = random.Random(f"{seed}-{g}").sample(wrong, negatives)
            out.append((g, sorted([c for c, r in enumerate(relevance) if r > 0] + wrong)))
        return out

    def collate(self, batch, sharing=True, bucket_tokens=512):
        """Return the tensors of a batch.

        Args:
            batch: list of query indices, or of (query index, [candidate index, ...]).
            sharing: arrange a tree of segments; else plain padded rows.
            bucket_tokens: see ``build_segments``.
        """
        chosen = [(b, range(len(self.encoded.candidates[b]))) if isinstance(b, int) else b for b in batch]
        if not sharing:
            order = [(row, c) for row, (_, own) in enumerate(chosen) for c in range(len(own))]
            ids = [np.array(self.encoded.full_ids(chosen[row][0], chosen[row][1][c])) for row, c in order]
            values, lengths = pad_rows(ids)
            tree = {"values": [values], "lengths": [lengths], "parents": [-1], "rows": [lengths], "leaves": [0]}
        else:
            if self.trunk is None:
                constant = self.encoded.constant
                parts = [(self.encoded.prefixes[g], [self.encoded.candidates[g][c] for c in own]) for g, own in chosen]
            else:
                constant, parts = self.trunk.constant, []
                for g, own in chosen:
                    prefix, candidates = self.trunk.group(g)
                    parts.append((prefix, [candidates[c] for c in own]))
            segments, leaves, order = build_segments(
                constant, [p for p, _ in parts], [c for _, c in parts], bucket_tokens
            )
            tree = {
                "values": [s.values for s in segments],
                "lengths": [s.lengths for s in segments],
                "parents": [-1 if s.parent is None else s.parent for s in segments],
                "rows": [s.lengths if s.rows is None else s.rows for s in segments],
                "leaves": leaves,
            }
        labels = [self.groups[chosen[row][0]].relevance[chosen[row][1][c]] for row, c in order]
        index = [(chosen[row][0], chosen[row][1][c]) for row, c in order]
        return {
            **tree,
            "labels": torch.tensor(labels, dtype=torch.float32),
            "groups": torch.tensor([row for row, _ in order]),
            "index": index,
        }
