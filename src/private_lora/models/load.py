"""Base models: built-in, a local Hugging Face directory, a GGUF file or a hub id; float32 on the CPU, in eval mode."""

import hashlib
import os
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import httpx
import huggingface_hub
import torch
import transformers
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import disable_progress_bars
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from private_lora.core.errors import UserError, first_line
from private_lora.core.names import check_name
from private_lora.models.gguf import convert, file_hash
from private_lora.models.lookup import OUTLIER_SUFFIX, checked_directory, gguf_path, local_directory
from private_lora.models.outliers import plant_outliers
from private_lora.specs.models import BUILT_IN_MODELS

WEIGHT_SOURCES = ("pretrained", "random")
HUB_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")  # no pickles: they run code when loaded
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def load_base(name, revision=None, weights="pretrained", seed=0, blocks=None):
    """The base model (float32, CPU, eval mode) and its tokenizer, as a pair.

    name: a built-in name, a directory (starts with `.`, `/` or `~`, or exists), a GGUF file, or a Hugging Face hub id.
    revision: branch, tag or commit of a hub id; weights: "pretrained", or "random" for the same architecture
    with fresh weights drawn from the seed; blocks: keep only the first so many transformer blocks. A tokenizer without a
    padding token pads with its end token.
    UserError, one sentence, if the model is missing, gated, unreachable or not a causal language model.
    """
    check_name("weights", weights, WEIGHT_SOURCES)
    quiet_libraries()
    directory, _ = locate(name, revision)
    tokenizer = load_tokenizer(directory)
    model = load_weights(directory, blocks) if weights == "pretrained" else random_weights(directory, seed)
    if is_outlier_variant(name):
        plant_outliers(model, tokenizer)
    return model.eval(), tokenizer


def quiet_libraries():
    """Turns off the progress bars and notices that the hub libraries print while they load."""
    disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # peft still asks by the old name of this property; nothing a user could do about it.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)


def is_outlier_variant(name):
    """True for the built-in name whose massive activations are planted at load time."""
    return name in BUILT_IN_MODELS and name.endswith(OUTLIER_SUFFIX)


def locate(name, revision=None):
    """(directory, commit) of a model: commit is None unless it came from the hub, which may download it.

    A GGUF file is converted first, at its first use.
    """
    file = gguf_path(name)
    if file is not None:
        quiet_libraries()
        return convert(file), None
    directory = local_directory(name)
    if directory is not None:
        return directory, None
    directory = download(name, revision)
    return checked_directory(directory, name), directory.name


def download(name, revision):
    """The local snapshot directory of a hub model, named after its commit; UserError if there is none."""
    wanted = f"model {name!r}" + (f" at revision {revision!r}" if revision else "")
    help_text = f"give a local directory, or one of {', '.join(BUILT_IN_MODELS)}"
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES)))
    except hub_errors.HFValidationError:
        raise UserError(f"{wanted} is no built-in model, directory or hub id: {help_text}") from None
    except hub_errors.GatedRepoError:
        raise UserError(
            f"{wanted} is gated on the Hugging Face hub: accept its licence there and log in with "
            f"`hf auth login`, or {help_text}"
        ) from None
    except hub_errors.RevisionNotFoundError:
        raise UserError(f"{wanted} does not exist on the Hugging Face hub: check the revision") from None
    except hub_errors.RepositoryNotFoundError:
        raise UserError(
            f"{wanted} does not exist on the Hugging Face hub, or is private: check the name, log in with "
            f"`hf auth login`, or {help_text}"
        ) from None
    except (OSError, httpx.HTTPError):  # the hub's own errors and those of its transport
        raise UserError(
            f"{wanted} is not in the local cache and the Hugging Face hub cannot be reached: connect once "
            f"to download it, or {help_text}"
        ) from None


def load_config(directory):
    """The configuration in a model directory; UserError unless it is that of a causal language model."""
    try:
        config = AutoConfig.from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"config.json in {directory} is not that of a known model: {first_line(error)}") from None
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise UserError(
            f"{directory} holds a {config.model_type} model, which is no causal language model: give a Llama or GPT-2"
        )
    return config


def load_weights(directory, blocks=None):
    """The pretrained model in a directory, or its first blocks, float32; UserError if weights are missing or broken."""
    config = load_config(directory)
    config.num_hidden_layers = blocks or config.num_hidden_layers
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            directory, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # readers of broken files raise many kinds
        raise UserError(
            f"cannot read the weights in {directory} ({first_line(error)}): it needs safetensors files that fit its config.json"
        ) from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise UserError(
            f"the weights in {directory} lack {len(missing)} tensors, first {missing[0]}: save them again with save_pretrained"
        )
    return model


def random_weights(directory, seed):
    """The architecture in a directory with fresh float32 weights; the global generator is left alone."""
    config = load_config(directory)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def load_tokenizer(directory):
    """The tokenizer in a model directory, with a padding token; UserError if there is none."""
    if not any((directory / file).is_file() for file in TOKENIZER_FILES):
        raise UserError(f"no tokenizer in {directory}: save the model's tokenizer there with save_pretrained")
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
    except Exception as error:  # readers of broken files raise many kinds
        raise UserError(f"cannot read the tokenizer in {directory}: {first_line(error)}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_hash(name, revision=None):
    """Which weights these are: "hub:<commit>", "gguf-sha256:<hex>" of the file, or "sha256:<hex>" over config and weight files.

    The outlier variant carries "+outliers" after its base model's hash: the planting is part of the code.
    """
    file = gguf_path(name)
    if file is not None:
        return f"gguf-sha256:{file_hash(file)}"
    directory, commit = locate(name, revision)
    if commit:
        return f"hub:{commit}"
    digest = hashlib.sha256()
    for path in sorted([directory / "config.json", *directory.glob("*.safetensors")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"sha256:{digest.hexdigest()}" + ("+outliers" if is_outlier_variant(name) else "")


def architecture(model):
    """What kind of model this is: type, weights (count), layers, hidden_size, vocabulary; a flat dict."""
    config = model.config
    return {
        "type": config.model_type,
        "weights": sum(weight.numel() for weight in model.parameters()),
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "vocabulary": config.vocab_size,
    }
