"""Probes of a clear run predict the gradient norms of the noisy one, and change nothing; SGD is plain."""

import numpy as np
import pytest
import torch

from private_lora.core.errors import UserError
from private_lora.training.loop import train_step
from private_lora.training.preparation import make_optimizer, prepare

PUBLISHED = {"activation_bits": 7, "weight_bits": 7, "batch_size": 1, "sequence_length": 64, "count_padding": True}
PUBLISHED |= {"share_inputs": False, "eval_examples": 0, "generate_examples": 0, "steps": 1}


def step(make_spec, directory, **keys):
    run = prepare(make_spec(**PUBLISHED | keys), directory)
    run.model.train()
    train_step(run)
    return {row["metric"]: row["value"] for row in run.recorder.rows}


def test_probes_predict_the_norm_under_noise_and_change_no_number(make_spec, tmp_path):
    probed, clear = (step(make_spec, tmp_path, backend="integer", zero_row_probes=n) for n in (24, 0))
    assert (probed["loss"], probed["grad_norm"]) == (clear["loss"], clear["grad_norm"])
    assert "zero_row_gain" not in clear
    assert 0 < probed["noisy_row_share"] < 1 and probed["zero_row_gain_error"] < probed["zero_row_gain"]
    noisy = []
    for seed in range(8):
        keys = {"backend": "glwe_simulated", "constant_rows": "reference", "backend_options": {"seed": seed}}
        noisy.append(step(make_spec, tmp_path, **keys)["grad_norm"])
    added = probed["noisy_rows"] * (19.05 * probed["noisy_weight_scale"]) ** 2 * probed["zero_row_gain"]
    expected = np.sqrt(clear["grad_norm"] ** 2 + added)
    assert expected > 1.5 * clear["grad_norm"]  # else nothing is shown
    assert np.sqrt(np.mean(np.square(noisy))) == pytest.approx(expected, rel=0.25)


def test_probes_want_kept_activations(make_spec):
    with pytest.raises(UserError, match="zero_row_probes"):
        make_spec(zero_row_probes=1, recompute=True)


def test_sgd_is_plain_with_the_weight_decay_given(make_spec):
    model = torch.nn.Linear(2, 1, bias=False)
    before, gradient = model.weight.detach().clone(), torch.tensor([[3.0, -4.0]])
    keys = {"optimizer": "sgd", "learning_rate": 0.5, "weight_decay": 0.1, "warmup_steps": 0, "lr_schedule": "constant"}
    optimizer, _ = make_optimizer(model, make_spec(**keys))
    for _ in range(2):
        model.weight.grad = gradient.clone()
        optimizer.step()
    once = before - 0.5 * (gradient + 0.1 * before)
    assert torch.allclose(model.weight, once - 0.5 * (gradient + 0.1 * once))
    assert isinstance(make_optimizer(model, make_spec())[0], torch.optim.AdamW)
