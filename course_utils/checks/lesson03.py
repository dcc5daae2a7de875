"""Checks for the exercises of lesson 03, Freezing."""

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from course_utils.checks import NotYet, _careful, _judged, need, ok
from course_utils.language import _, _later
from course_utils.training.freezing import decoder_layers, freeze_all_but_last


def _small_model(layers, seed=0, tied=True):
    """Return a random Qwen3ForCausalLM that fits in a few hundred kilobytes."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        hidden_size=16, num_hidden_layers=layers, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, vocab_size=64, tie_word_embeddings=tied, initializer_range=0.3,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


@_careful
def check_names(names_of_last):
    """Exercise 1: ``names_of_last(names, k)`` returns those of the last ``k`` layers."""
    for layers, k in ((6, 1), (6, 3), (28, 3), (28, 9), (12, 12)):
        model = _small_model(layers)
        names = [n for n, _ in model.named_parameters()]
        freeze_all_but_last(model, k, norm=False)
        expected = {n for n, p in model.named_parameters() if p.requires_grad}
        found = names_of_last(list(names), k)
        need(found is not None, "The function returns nothing yet: end it with return and the names.")
        found = set(found)
        extra, missing = sorted(found - expected), sorted(expected - found)
        need(
            not extra,
            _('With {layers} layers and k = {k}, "{value_0}" is not in one of the last {k} layers.').format(
                layers=layers, k=k, value_0=(extra or [""])[0]
            ),
        )
        need(
            not missing,
            _('With {layers} layers and k = {k}, "{value_0}" is missing.').format(
                layers=layers, k=k, value_0=(missing or [""])[0]
            ),
        )
    ok("Right: the same parameters as freeze_all_but_last, for 6, 12 and 28 layers.")


@_careful
def check_accidents(accidents):
    """Exercise 2: ``accidents(model, k)`` returns (names that train but should not, names that should but do not)."""

    def spoiled(change):
        model = _small_model(12)
        freeze_all_but_last(model, 3)
        before = {n: p.requires_grad for n, p in model.named_parameters()}
        change(model)
        after = {n: p.requires_grad for n, p in model.named_parameters()}
        extra = {n for n in after if after[n] and not before[n]}
        return model, extra, {n for n in after if before[n] and not after[n]}

    def tied_head(model):
        model.lm_head.weight.requires_grad = True

    def one_too_low(model):
        for i, flag in ((8, True), (11, False)):
            for p in model.model.layers[i].parameters():
                p.requires_grad = flag

    def no_norm(model):
        model.model.norm.weight.requires_grad = False

    cases = {
        _("a model that is frozen as it should be"): lambda model: None,
        _("a model whose head was unfrozen"): tied_head,
        _("a model frozen one layer too low"): one_too_low,
        _("a model whose final norm was left frozen"): no_norm,
    }
    for name, change in cases.items():
        model, extra, missing = spoiled(change)
        found = accidents(model, 3)
        need(
            isinstance(found, tuple | list) and len(found) == 2 and not any(isinstance(part, str) for part in found),
            "Return two lists: what trains but should not, and what should train but does not.",
        )
        found = tuple(set(part) for part in found)
        for title, own, wanted in (
            (_("trains but should not"), found[0], extra),
            (_("should train but does not"), found[1], missing),
        ):
            for n in sorted(wanted - own)[:1]:
                need(False, _('In {name}, "{n}" {title}; you did not name it.').format(name=name, n=n, title=title))
            for n in sorted(own - wanted)[:1]:
                need(
                    False,
                    _('In {name}, you say that "{n}" {title}; that is not so.').format(name=name, n=n, title=title),
                )
    ok("Right: four models, every accident named. The unfrozen head was the embeddings, since they are tied.")


@_careful
def check_training_bytes(training_bytes):
    """Exercise 3: ``training_bytes(model)`` predicts the bytes of weights, gradients and AdamW's means."""
    for k, dtype in ((1, torch.float32), (3, torch.bfloat16), (6, torch.bfloat16)):
        model = _small_model(6)
        freeze_all_but_last(model, k)
        for p in model.parameters():
            p.data = p.data.float() if p.requires_grad else p.data.to(dtype)
        answer = training_bytes(model)
        need(answer is not None, "The function returns nothing yet: end it with return and the number of bytes.")
        # Measured: one step of the real optimiser, and everything that it holds.
        trained = [p for p in model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(trained)
        for p in trained:
            p.grad = torch.zeros_like(p)
        optimiser.step()
        held = [p.data for p in model.parameters()] + [p.grad for p in trained]
        held += [t for state in optimiser.state.values() for name, t in state.items() if name != "step"]
        real = sum(t.numel() * t.element_size() for t in held)
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        own = sum(p.numel() * p.element_size() for p in trained)
        name = _("the last {k} of 6 layers in float32, the rest in {dtype}").format(
            k=k, dtype=str(dtype).removeprefix("torch.")
        )
        need(
            answer != weights,
            "With {name}, you counted the weights ({weights:,} bytes); gradients and AdamW come on top.",
            name=name,
            weights=weights,
        )
        need(
            answer != real - own,
            "With {name}, you left out a part: a trained weight has one gradient and two means.",
            name=name,
        )
        need(
            answer != 4 * own,
            "With {name}, you counted only what trains; the frozen weights take memory as well.",
            name=name,
        )
        need(
            answer == real,
            _("With {name}, {real:,} bytes are held after a step of AdamW; you predict {answer:,}.").format(
                name=name, real=real, answer=answer
            ),
        )
    ok("Right: to the byte, as measured after a real step of AdamW, three times.")


@_careful
def check_continue(continue_from):
    """Exercise 4: ``continue_from(model, states, first)`` runs the layers from ``first`` on and the final norm."""
    ids = torch.tensor([[5, 17, 3, 42, 8, 8, 60, 1]])
    for first in (1, 3, 5):
        model = _small_model(6)
        with torch.no_grad():
            out = model.model(input_ids=ids, output_hidden_states=True, use_cache=False)
        states, expected = out.hidden_states[first].clone(), out.last_hidden_state

        def refuse(*args, number=first, **kwargs):
            raise NotYet(
                _(
                    "A layer below layer {number} ran. Its work is in the states already: start at layer {number}."
                ).format(number=number)
            )

        ran = []

        def watch(number, forward, ran=ran):
            def run(*args, **kwargs):
                ran.append(number)
                if len(args) < 2 and kwargs.get("position_embeddings") is None:
                    raise NotYet(_("A layer got no angles: call it as layer(states, position_embeddings=angles)."))
                return forward(*args, **kwargs)

            return run

        layers = decoder_layers(model)[1]
        for number, layer in enumerate(layers):
            layer.forward = refuse if number < first else watch(number, layer.forward)
        with torch.no_grad():
            answer = continue_from(model, states, first)
        need(
            isinstance(answer, torch.Tensor), "Return the states as a tensor, not a {kind}.", kind=type(answer).__name__
        )
        need(
            answer.shape == expected.shape,
            "The shape is {shape}; it should be {shape_2}.",
            shape=tuple(answer.shape),
            shape_2=tuple(expected.shape),
        )
        gap = float((answer - expected).abs().max())
        if gap > 1e-4:
            with torch.no_grad():
                close = torch.allclose(model.model.norm(answer), expected, atol=1e-4)
            need(not close, "The layers are right; the final norm is missing.")
            wanted = list(range(first, len(layers)))
            need(
                ran == wanted,
                _("From layer {first} on, the layers {wanted} run, in this order; yours are {ran}.").format(
                    first=first, wanted=wanted, ran=ran
                ),
            )
            need(
                False,
                "From layer {first} on, the result differs by {gap:.2g}. Does each layer get the states of the layer "
                "before it, and the rotary angles of positions 0, 1, 2 and so on? Is the norm last?",
                first=first,
                gap=gap,
            )
    ok("Right: from the states of layers 1, 3 and 5 the same final states as from the token ids.")


_WAYS = {
    "A": ("better", _later("its lead lies above 0 as a whole, and general holds 0")),
    "B": ("not settled", _later("its lead has the largest mean, and its interval holds 0")),
    "C": ("forgets", _later("it leads for sure, and loses general skill for sure: a bad trade")),
    "D": ("worse", _later("its lead lies below 0 as a whole")),
    "E": ("not settled", _later("its lead holds 0: a narrow interval shows a small difference, not a settled one")),
}


@_careful
def check_judge(judge):
    """Exercise 5: ``judge(way)`` returns "better", "worse", "not settled" or "forgets" for the ways A to E."""
    choose = _later('For {name} return "better", "worse", "not settled" or "forgets"; you return {answer!r}.')
    _judged(judge, _WAYS, choose, _later("Look at {name} again: {why}."))
    ok("Right: five ways, one of them worth its price.")
