"""What trains is chosen by module, shown in a table, and proved by gradients."""

import pytest
import torch
from conftest import tiny_model

from course_utils.errors import InputError
from course_utils.training.freezing import (
    _first_trainable_layer,
    freeze_all_but_last,
    gradient_report,
    parameter_table,
    train_only,
)


def backward(model):
    """One backward pass through the model's own forward on random tokens."""
    model.train()
    ids = torch.randint(300, 900, (2, 12), generator=torch.Generator().manual_seed(0))
    model(input_ids=ids).logits[:, -1, :2].sum().backward()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_gradients_are_non_zero_exactly_in_the_last_layers(tokenizer, k, checkpointing):
    model = tiny_model(tokenizer)
    freeze_all_but_last(model, k)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    backward(model)
    report = gradient_report(model)
    assert all(value > 0 for value in report.values()), report
    wanted = {f"model.layers.{i}." for i in range(4 - k, 4)} | {"model.norm."}
    assert all(any(name.startswith(w) for w in wanted) for name in report)
    assert all(any(name.startswith(w) for name in report) for w in wanted)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_layers_are_found_in_any_decoder(family):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = (
        {"n_embd": 32, "n_layer": 3, "n_head": 2, "vocab_size": 100}
        if family == "gpt2"
        else {
            "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 32, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100,
        }
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape))
    freeze_all_but_last(model, 1, norm=False)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    assert names
    assert all(".2." in n for n in names)
    assert _first_trainable_layer(model) == 2


def test_mistake_3_names_of_layers_that_do_not_exist_train_nothing_and_we_raise(tokenizer):
    model = tiny_model(tokenizer, layers=6)
    # The usual recipe: freeze everything, then unfreeze by guessed names. The real ones are model.layers.N.
    for name, p in model.named_parameters():
        p.requires_grad = any(guess in name for guess in ("layer.23", "layer.24", "layer.25", "classifier"))
    assert not any(p.requires_grad for p in model.parameters())
    with pytest.raises(InputError, match="Nothing would train"):
        parameter_table(model)


@pytest.mark.parametrize("k", [0, -1, 5, 1.5, "3"])
def test_a_number_of_layers_that_is_not_there_is_refused(tokenizer, k):
    with pytest.raises(InputError, match="from 1 to 4"):
        freeze_all_but_last(tiny_model(tokenizer), k)


def test_the_table_counts_every_parameter_once(tokenizer):
    model = tiny_model(tokenizer)
    table = freeze_all_but_last(model, 2)
    assert table.total == sum(p.numel() for p in model.parameters())
    assert table.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert [r.part for r in table if r.trainable] == ["layer 2", "layer 3", "norm and output"]
    assert f"{table.trainable:,}" in str(table)
    assert train_only(model, "all").trainable == table.total


def test_tied_embeddings_stay_frozen_with_the_output_matrix(tokenizer):
    model = tiny_model(tokenizer)
    freeze_all_but_last(model, 4)
    assert not model.get_output_embeddings().weight.requires_grad
    assert _first_trainable_layer(model) == 0
