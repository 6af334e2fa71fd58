"""What a worker receives of a text, in the clear or encrypted, and how much of the text the same attack reads back from it.

The attack knows what a worker knows: the public embedding and norm, so what each token of the vocabulary gives as input of the
first layer, and the numbers that it was sent. It shows what travels. It is no proof of security: that rests on the scheme and
its parameters, and there may be better attacks on integers in the clear, which need none.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from private_lora.backends.contract import Backend, ClearMessage, Plan, Server
from private_lora.core.errors import UserError
from private_lora.data.load import load_examples, validate_data
from private_lora.models.load import model_hash
from private_lora.results.provenance import Start, machine, write_sidecar
from private_lora.results.recorder import Recorder
from private_lora.results.schema import options_text
from private_lora.specs.backends import BACKENDS
from private_lora.specs.worker_view import WorkerViewSpec
from private_lora.split.place import InProcess
from private_lora.split.session import Session
from private_lora.training.adapter import without_adapter
from private_lora.training.preparation import check_encrypted, quantization_of, split_base

# Models whose first layer's input is the norm of the token's embedding, without a position.
FAMILIES = ("llama", "qwen2")
# Of each residue, for the question whether they are uniform.
TOP_BITS = 4
# Rows of random numbers from which chance is estimated; rows that are compared with the vocabulary at once.
RANDOM_ROWS, ROWS_AT_ONCE = 4096, 512


@dataclass(frozen=True)
class Question:
    """One question: its tokens, the client's integers (T x K), and the numbers in the message (T x K) of so many bits."""

    tokens: list[int]
    sent: np.ndarray
    received: np.ndarray
    bits: int


def worker_view(spec: WorkerViewSpec, out: Path) -> None:
    """Write the rows of what a worker received (`out`) and a sidecar beside it.

    Raises UserError on a model or text that cannot be used, RuntimeError if a backend that encrypts counted no encrypted
    product.
    """
    started = Start()
    place = Listening()
    frame, model, session = split_base(spec, without_adapter, place, backward=False)
    inputs = token_inputs(frame.model)
    questions = [_ask(model, tokens, place) for tokens in _pieces(spec, frame.tokenizer)]
    check_encrypted(spec, session.counters.encrypted_products)
    guesses = read_back(np.concatenate([q.received for q in questions]), inputs).reshape(spec.questions, spec.tokens)
    recorder = Recorder(_columns(spec, session))
    _add_first(recorder, questions[0], guesses[0], frame.tokenizer, spec.columns)
    for number, (question, guessed) in enumerate(zip(questions, guesses, strict=True)):
        right = int((guessed == question.tokens).sum())
        recorder.add("recovered_tokens", right, "tokens", phase="question", repeat=number)
    for metric, (value, unit) in _facts(spec, questions, session, inputs).items():
        recorder.add(metric, value, unit, phase="run")
    for top, count in enumerate(top_bits(questions)):
        recorder.add("top_bits_count", count, "", phase="run", sample=top)
    recorder.add_shares(started.cpu_shares())
    write_sidecar(
        out.parent / "sidecar.json",
        {
            "spec": spec.to_dict(),
            "spec_digest": spec.digest(),
            "environment": started.environment(),
            "torch_threads": torch.get_num_threads(),
            "model_hash": model_hash(spec.model, spec.revision),
            "layers": {p.name: p.plan.report() for p in session.products},
        },
    )
    recorder.write(out)


class Parsing(Server):
    """A server that takes each question as bytes, as over a network, and keeps what it parsed."""

    def __init__(self, backend: Backend, plan: Plan, server: Server):
        super().__init__(plan)
        self.counters, self.messages = server.counters, []
        self._backend, self._server = backend, server

    def matmul(self, message):
        self.messages.append(self._backend.ciphertext_from_bytes(message.to_bytes()))
        return self._server.matmul(self.messages[-1])


class Listening(InProcess):
    """In this process; of the first product, the client's integers are kept beside what the server received."""

    def __init__(self):
        self.first: Parsing | None = None
        self.sent: list[np.ndarray] = []

    def server(self, backend: Backend, plan: Plan, weight) -> Server:
        server = super().server(backend, plan, weight)
        if self.first is not None:
            return server
        self.first = Parsing(backend, plan, server)
        return self.first

    def product(self, client, server: Server, x: np.ndarray):
        if server is self.first:
            self.sent.append(x)
        return super().product(client, server, x)


@torch.no_grad()
def token_inputs(model: torch.nn.Module) -> np.ndarray:
    """What the first layers take as input for each token of the vocabulary, float32 V x K: all of it is public."""
    if model.config.model_type not in FAMILIES:
        raise UserError(
            f"the first layer's input of a {model.config.model_type} model depends on more than the token: take a model of the "
            f"kinds {', '.join(FAMILIES)}"
        )
    return model.model.layers[0].input_layernorm(model.get_input_embeddings().weight.float()).numpy()


def read_back(received: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """For each row of numbers (T x K), the token (T) whose input (of V x K) correlates with it most.

    Correlation knows neither scale nor zero point, which the client keeps.
    """
    rows, known = _standardized(received), _standardized(inputs).T
    return np.concatenate([(rows[i : i + ROWS_AT_ONCE] @ known).argmax(axis=1) for i in range(0, len(rows), ROWS_AT_ONCE)])


def chance(tokens: list[int], inputs: np.ndarray, seed: int) -> float:
    """The share of the tokens that the attack is expected to read back from uniformly random numbers, which tell it nothing.

    It says some tokens more often than others, so that this is not 1 / V.
    """
    noise = np.random.default_rng(seed).random((RANDOM_ROWS, inputs.shape[1]), dtype=np.float32)
    said = np.bincount(read_back(noise, inputs), minlength=len(inputs)) / RANDOM_ROWS
    return float(said[tokens].mean())


def _standardized(rows: np.ndarray) -> np.ndarray:
    """Rows as float32 of mean 0 and length 1; a row without a range becomes 0."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return (centred / np.where(length > 0, length, 1)).astype(np.float32)


def top_bits(questions: list[Question]) -> np.ndarray:
    """How many received numbers have each value of their TOP_BITS upper bits, over all questions."""
    tops = [(q.received >> (q.bits - TOP_BITS)) & (2**TOP_BITS - 1) for q in questions]
    return np.bincount(np.concatenate(tops).ravel(), minlength=2**TOP_BITS)


def _pieces(spec: WorkerViewSpec, tokenizer) -> list[list[int]]:
    """Token ids of each question; raises UserError if the source has too few."""
    validate_data(spec.data, spec.data_options)
    wanted, examples = spec.questions * spec.tokens, 1
    while True:
        texts = [e.prompt + e.completion for e in load_examples(spec.data, spec.data_options, "test", examples, spec.seed)]
        ids = tokenizer("\n".join(texts), add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= wanted:
            return [ids[i : i + spec.tokens] for i in range(0, wanted, spec.tokens)]
        examples *= 2


@torch.no_grad()
def _ask(model: torch.nn.Module, tokens: list[int], place: Listening) -> Question:
    """One pass through the model, and what went to the first product's server."""
    model.eval()(input_ids=torch.tensor([tokens]))
    message = place.first.messages.pop()
    if isinstance(message, ClearMessage):
        received, bits = message.values.astype(np.int64), place.first.plan.activation_bits
    else:
        received, bits = message.residues
    return Question(tokens, place.sent.pop(), received, bits)


def _columns(spec: WorkerViewSpec, session: Session) -> dict:
    first = session.products[0]
    columns = {
        "run_id": spec.run_id,
        "stage": spec.stage,
        "model": spec.model,
        "dataset": spec.data,
        "backend": spec.backend,
        "device": spec.device,
        "machine": machine(spec.device),
        "variant": spec.variant,
        "options": options_text(spec.backend_options),
        "layer": first.name.removesuffix(" forward"),
        "tokens": spec.tokens,
        "inputs": first.plan.inputs,
        "outputs": first.plan.outputs,
        "seed": spec.seed,
        "basis": BACKENDS[spec.backend].basis,
    }
    return columns | asdict(quantization_of(spec))


def _add_first(recorder: Recorder, question: Question, guesses: np.ndarray, tokenizer, columns: int) -> None:
    """Rows of the first question: each token and what was read back in its place, and the numbers of its first columns."""
    for step, (token, guess) in enumerate(zip(question.tokens, guesses.tolist(), strict=True), 1):
        for metric, name in (("token", token), ("recovered_token", guess)):
            recorder.add(metric, name, phase="question", repeat=0, step=step, note=tokenizer.decode([name]))
        for sample, value in enumerate(question.received[step - 1, :columns].tolist()):
            recorder.add("received_value", value, phase="question", repeat=0, step=step, sample=sample)


def _facts(
    spec: WorkerViewSpec, questions: list[Question], session: Session, inputs: np.ndarray
) -> dict[str, tuple[float, str]]:
    tokens = [token for question in questions for token in question.tokens]
    sent, received = (np.concatenate([getattr(q, name).ravel() for q in questions]) for name in ("sent", "received"))
    return {
        "questions": (len(questions), ""),
        "read_tokens": (len(tokens), "tokens"),
        "vocabulary": (len(inputs), "tokens"),
        "chance_share": (chance(tokens, inputs, spec.seed), "fraction"),
        # What the best guess that looks at nothing would get: always the same token.
        "commonest_token_count": (max(Counter(tokens).values()), "tokens"),
        "received_values": (len(received), ""),
        "received_bits": (questions[0].bits, "bits"),
        "correlation": (float(np.corrcoef(sent, received)[0, 1]), ""),
        "encrypted_matmuls": (session.counters.encrypted_products, ""),
        "security_bits": (min(p.plan.security_bits for p in session.products), "bits"),
    }
