"""Tokens of whole prompts: what a model would read, and what it would cut."""

from collections import Counter

from course_utils.language import _
from course_utils.model import prompt


class _Lengths:
    """Tokens of whole prompts, counted as they come.

    Attributes:
        counts: Counter from number of tokens to number of pairs.
        cut: pairs whose document is truncated at ``max_length``.
        longest: (tokens, where) of the longest prompt.
        too_long: where the first queries stand that leave no room for a document.
    """

    def __init__(self, tokenizer, max_length=1024, instruction=prompt.DEFAULT_INSTRUCTION):
        self.tokenizer, self.max_length, self.instruction = tokenizer, max_length, instruction
        self.frame = sum(map(len, self._ids([prompt.PREFIX, prompt.SUFFIX])))
        self.counts, self.cut, self.longest, self.too_long = Counter(), 0, (0, ""), {}

    def _ids(self, texts):
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]

    def add(self, rows):
        """Count a list of (where, query, document)."""
        texts = [prompt.content_text(q, d, self.instruction) for _where, q, d in rows]
        for (where, query, _document), ids in zip(rows, self._ids(texts) if texts else [], strict=True):
            tokens = self.frame + len(ids)
            self.counts[tokens] += 1
            if tokens > self.longest[0]:
                self.longest = (tokens, where)
            if tokens > self.max_length:
                self.cut += 1
                used = len(self._ids([prompt.content_text(query, "", self.instruction)])[0])
                # The same margin as in prompt.encode_groups.
                if used + 8 > self.max_length - self.frame:
                    self.too_long.setdefault(hash(query), where)

    def quantile(self, share):
        """Return the number of tokens that ``share`` of the prompts do not exceed."""
        left = share * self.counts.total()
        for tokens in sorted(self.counts):
            left -= self.counts[tokens]
            if left <= 1e-9:
                break
        return tokens

    def __str__(self):
        if not self.counts:
            return _("no prompts")
        share = self.cut / self.counts.total()
        return _(
            "a whole prompt has {quantile:,} tokens at the median, {quantile_2:,} at the 95th percentile, "
            "{longest_0:,} at most; at max_length {max_length:,} "
        ).format(
            quantile=self.quantile(0.5),
            quantile_2=self.quantile(0.95),
            longest_0=self.longest[0],
            max_length=self.max_length,
        ) + (
            _("{cut:,} documents ({share:.1%}) would be cut").format(cut=self.cut, share=share)
            if self.cut
            else _("nothing is cut")
        )


def token_lengths(groups, tokenizer, max_length=1024, instruction=prompt.DEFAULT_INSTRUCTION):
    """Return the Lengths of all prompts of a list of Group: what would be cut at ``max_length`` tokens."""
    lengths = _Lengths(tokenizer, max_length, instruction)
    for i, g in enumerate(groups, 1):
        lengths.add([(_("query {number}").format(number=i), g.query, d) for d in g.documents])
    return lengths
