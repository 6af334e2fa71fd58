"""Options, threads, and the small models and specs that several tests share."""

import os

import hypothesis
import pytest

pytest_plugins = ["slow_tests", "tree_fixtures", "worker_fixtures", "browser"]

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may wait for a network
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # private_lora would set it, but tests import torch first
if "PYTEST_XDIST_WORKER" in os.environ:
    # As many processes as cores, so one thread each; set before torch and numba are imported.
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

# How long an example takes says nothing here: the first one may import a library, and others use the machine.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def pytest_addoption(parser):
    parser.addoption("--checked-values", type=float, default=1e6, help="values that test_exactness.py compares with int64")
    parser.addoption("--honest-answers", type=float, default=1e4, help="right answers that test_freivalds.py checks")
    parser.addoption("--kills", type=int, default=1, help="runs in which test_faults.py kills a worker at a random moment")
    parser.addoption("--fuzz-messages", type=float, default=1e3, help="altered messages that test_fuzz.py sends to a worker")


@pytest.fixture
def checked_values(request):
    return int(request.config.getoption("--checked-values"))


@pytest.fixture
def honest_answers(request):
    return int(request.config.getoption("--honest-answers"))


@pytest.fixture
def fuzz_messages(request):
    return int(request.config.getoption("--fuzz-messages"))


@pytest.fixture(scope="session")
def tiny_llama_directory(tmp_path_factory):
    """A random one-layer Llama with the built-in tokenizer, written by `save_pretrained`."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from private_lora.models.lookup import built_in_directory

    tokenizer = AutoTokenizer.from_pretrained(built_in_directory("nano"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    directory = tmp_path_factory.mktemp("models") / "tiny-llama"
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_gpt2_directory(tmp_path_factory):
    """A random two-layer GPT-2 (Conv1D layers) with the built-in tokenizer."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    from private_lora.models.lookup import built_in_directory

    tokenizer = AutoTokenizer.from_pretrained(built_in_directory("nano"))
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=128)
    directory = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    GPT2LMHeadModel(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def make_spec(tiny_llama_directory):
    """A function that makes a small run's spec; keywords override its fields."""
    from private_lora.specs.backends import BACKENDS
    from private_lora.specs.run import RunSpec

    def make(**fields):
        values = {
            "run_id": "tiny",
            "model": str(tiny_llama_directory),
            "data": "math_problems",
            "backend": "integer",
            "steps": 6,
            "warmup_steps": 1,
            "batch_size": 2,
            "sequence_length": 64,
            "train_examples": 40,
            "eval_examples": 4,
            "eval_every": 0,
            "checkpoint_every": 2,
        } | fields
        if BACKENDS[values["backend"]].quantized:
            values = {"activation_bits": 8, "weight_bits": 8} | values
        return RunSpec.from_dict(values)

    return make
