"""Query groups with their token ids or cached states, drawn and arranged as the tensors of one step."""

import random
from dataclasses import dataclass, replace

import numpy as np
import torch

from course_utils.model.forward import _build_segments, _Segment, pad_rows


@dataclass(frozen=True)
class Batch:
    """The pairs of some queries as tensors.

    Attributes:
        segments: list of Segment: a tree of shared tokens, or one Segment of whole prompts.
        leaves: indices of the segments whose last tokens are scored.
        labels: relevance of each pair [pairs], in the order of the leaves' rows.
        groups: for each pair the place of its query in the batch [pairs].
        index: for each pair (query, candidate) in its Source.
        teacher: a teacher's logit of each pair [pairs], NaN where there is none; None without a teacher.
    """

    segments: list
    leaves: list
    labels: torch.Tensor
    groups: torch.Tensor
    index: list
    teacher: torch.Tensor | None = None

    def to(self, device):
        """Return the same batch on ``device``."""
        segments = [s.to(device) for s in self.segments]
        teacher = None if self.teacher is None else self.teacher.to(device)
        return Batch(segments, self.leaves, self.labels.to(device), self.groups.to(device), self.index, teacher)


@dataclass
class Source:
    """Groups with their token ids and, where layers are frozen, the trunk that holds their states."""

    groups: list
    encoded: object
    trunk: object = None
    teacher: list | None = None  # logits of each group, see losses._teacher_logits
    plan: list | None = None  # candidates of each query in each epoch, see ``planned``

    def draw(self, batch, negatives, seed, epoch=0):
        """Return [(query index, [candidate index, ...])]: all right documents and at most ``negatives`` others by chance.

        The choice depends on ``seed``, epoch and query alone, so that a resumed run and several processes make the same one.
        """
        if self.plan:
            return [(g, self.plan[min(epoch, len(self.plan) - 1)][g]) for g in batch]
        out = []
        for g in batch:
            relevance = self.groups[g].relevance
            wrong = [c for c, r in enumerate(relevance) if r <= 0]
            if negatives is not None and negatives < len(wrong):
                wrong = random.Random(f"{seed}-{epoch}-{g}").sample(wrong, negatives)
            out.append((g, sorted([c for c, r in enumerate(relevance) if r > 0] + wrong)))
        return out

    def planned(self, negatives, seed, epochs):
        """Return the Source of those documents that some epoch draws: no state of any other is needed.

        Its ``draw`` gives the documents that this one's would.
        """
        every = range(len(self.groups))
        drawn = [[own for _g, own in self.draw(every, negatives, seed, e)] for e in range(epochs)]
        kept = [sorted(set().union(*own)) for own in zip(*drawn, strict=True)]
        place = [{c: i for i, c in enumerate(own)} for own in kept]
        candidates = [[self.encoded.candidates[g][c] for c in own] for g, own in enumerate(kept)]
        return Source(
            [self.groups[g]._pick(own) for g, own in enumerate(kept)],
            replace(self.encoded, candidates=candidates),
            teacher=self.teacher and [self.teacher[g][own] for g, own in enumerate(kept)],
            plan=[[[place[g][c] for c in own] for g, own in enumerate(epoch)] for epoch in drawn],
        )

    def collate(self, batch, sharing=True, bucket_tokens=512):
        """Return the Batch of some queries.

        Args:
            batch: list of query indices, or of (query index, [candidate index, ...]).
            sharing: arrange a tree of segments; else plain padded rows.
            bucket_tokens: see ``build_segments``.
        """
        chosen = [(b, range(len(self.encoded.candidates[b]))) if isinstance(b, int) else b for b in batch]
        arrange = self._tree if sharing else self._rows
        segments, leaves, order = arrange(chosen, bucket_tokens)
        index = [(chosen[row][0], chosen[row][1][c]) for row, c in order]
        labels = torch.tensor([self.groups[g].relevance[c] for g, c in index], dtype=torch.float32)
        teacher = torch.stack([self.teacher[g][c] for g, c in index]) if self.teacher else None
        return Batch(segments, leaves, labels, torch.tensor([row for row, _ in order]), index, teacher)

    def _rows(self, chosen, _):
        """Return (segments, leaves, order) of whole prompts, a row each."""
        order = [(row, c) for row, (_, own) in enumerate(chosen) for c in range(len(own))]
        ids = [np.array(self.encoded.full_ids(chosen[row][0], chosen[row][1][c])) for row, c in order]
        return [_Segment(*pad_rows(ids))], [0], order

    def _tree(self, chosen, bucket_tokens):
        """Return (segments, leaves, order) of a tree of shared tokens: ids, or states where a trunk holds them."""
        constant, parts = (self.encoded if self.trunk is None else self.trunk).constant, []
        for g, own in chosen:
            prefix, candidates = (
                (self.encoded.prefixes[g], self.encoded.candidates[g]) if self.trunk is None else self.trunk.group(g)
            )
            parts.append((prefix, [candidates[c] for c in own]))
        return _build_segments(constant, [p for p, _ in parts], [c for _, c in parts], bucket_tokens)
