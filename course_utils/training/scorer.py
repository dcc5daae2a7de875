"""The model as the Trainer trains it: a batch of query groups in, loss and scores out."""

import numpy as np
import torch
from torch import nn

from course_utils.model.batches import _gather_scores, _own_batches
from course_utils.model.forward import _bucket_size, _decoder_of, _shared_forward, _supports_sharing, _yes_minus_no
from course_utils.training.losses import _TARGETED, LOSSES


class GroupScorer(nn.Module):
    """Scores batches of query groups and returns the loss, as the Trainer wants it.

    Args:
        reranker: the Reranker in training.
        first: layers below this one were run before (see ``trunk``); 0 starts from token ids.
        loss: of a Recipe.
        recompute: compute activations again in the backward pass to save memory.
        penalty: optional function of the model that returns a tensor added to the loss.
    """

    def __init__(self, reranker, first=0, loss="both", recompute=False, penalty=None):
        super().__init__()
        self.model, self.yes_no = reranker.model, (reranker.yes_id, reranker.no_id)
        self.first, self.loss, self.recompute, self.penalty = first, {**LOSSES, **_TARGETED}[loss], recompute, penalty
        self.taught = loss == "teacher"

    def scores(self, batch):
        """Return logits [pairs] of a Batch, in the order of its labels."""
        if _supports_sharing(self.model):
            # One tensor a leaf [rows, hidden], joined to [pairs, hidden].
            last = torch.cat(
                _shared_forward(self.model, batch.segments, batch.leaves, first=self.first, recompute=self.recompute)
            )
        else:
            ids, lengths = batch.segments[0].values, batch.segments[0].lengths
            mask = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
            states = _decoder_of(self.model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            last = states[torch.arange(len(states), device=states.device), lengths - 1]
        return _yes_minus_no(self.model, last, *self.yes_no)

    def forward(self, batch):
        """Return {"loss", "scores"} of a Batch."""
        scores = self.scores(batch)
        loss = self.loss(scores, batch.labels, batch.groups, *([batch.teacher] if self.taught else []))
        if self.penalty is not None and self.training:
            loss = loss + self.penalty(self.model)
        return {"loss": loss, "scores": scores}

    def score_source(self, source, batch_tokens, device, context):
        """Return one array of logits a query of a Source, each batch within ``context()``; processes share the work."""
        scores = [np.zeros(len(c), dtype=np.float32) for c in source.encoded.candidates]
        sharing = _supports_sharing(self.model)
        for batch in _own_batches(source.encoded, batch_tokens):
            inputs = source.collate(batch, sharing, _bucket_size(device)).to(device)
            with context():
                out = self.scores(inputs)
            for (g, c), value in zip(inputs.index, out.float().tolist(), strict=True):
                scores[g][c] = value
        return _gather_scores(scores, device)
