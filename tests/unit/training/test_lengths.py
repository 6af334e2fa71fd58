"""What a worker can count: two private sets of texts of different lengths ask it the same questions of the same rows."""

import json

import pytest
from small_run import address_of, place_of

from private_lora.network.worker.held import hold
from private_lora.specs.generate import PAD_TO, GenerateSpec
from private_lora.specs.worker import WorkerSpec
from private_lora.training.generation import prepare_writer, write
from private_lora.training.loop import evaluate, train_step
from private_lora.training.preparation import prepare

ROWS = 40


EIGHT = {"activation_bits": 8, "weight_bits": 8}


@pytest.fixture
def watched_worker(tiny_llama_directory, local_worker):
    """A worker, and the (product, rows) of every question that it was asked, in order."""
    held = hold(WorkerSpec(model=str(tiny_llama_directory), backend="integer", **EIGHT))
    seen: list = []
    for product in held.products.values():
        product.server.matmul = watched(product, seen)
    with local_worker(held) as running:
        yield running, seen


def watched(product, seen):
    matmul = product.server.matmul
    return lambda message: seen.append((product.name, len(message.values))) or matmul(message)


def questions(worker, act):
    """(product, rows) of what the worker is asked while `act` goes on at a place of its own."""
    running, seen = worker
    seen.clear()
    with place_of([address_of(running)]) as place:
        act(place)
    return list(seen)


def step_and_evaluation(make_spec, directory, prompts, pad):
    """What makes a run on texts of these prompts take a step and an evaluation with written answers, and its data report."""
    directory.mkdir()
    path = directory / "mine.jsonl"
    path.write_text("".join(json.dumps({"question": prompt, "answer": "7"}) + "\n" for prompt in prompts))
    spec = make_spec(
        data="jsonl", data_options={"train_path": str(path), "test_path": str(_copy(path))}, sequence_length=32,
        train_examples=ROWS, eval_examples=ROWS, generate_examples=ROWS, pad=pad,
    )  # fmt: skip

    def act(place):
        run = prepare(spec, directory, place)
        run.model.train()
        train_step(run)
        evaluate(run, ends=True)
        act.left_out = run.data_report["left_out"]

    return act


def _copy(path):
    other = path.with_name("held-out.jsonl")
    other.write_text(path.read_text())
    return other


@pytest.mark.parametrize("pad", ["configured", "longest"])
def test_two_sets_of_texts_are_the_same_rows_to_a_worker_unless_padded_to_the_longest(
    pad, make_spec, watched_worker, tmp_path, monkeypatch
):
    monkeypatch.setattr("private_lora.training.loop.GENERATED_TOKENS", 4)
    # Some of these are too long to have a row at all.
    texts = [f"{i} and more" + " of that, a long question" * (30 if i % 5 == 0 else 1) for i in range(ROWS)]
    short = step_and_evaluation(make_spec, tmp_path / "short", [f"{i}" for i in range(ROWS)], pad)
    long = step_and_evaluation(make_spec, tmp_path / "long", texts, pad)
    asked = [questions(watched_worker, act) for act in (short, long)]
    assert len(asked[0]) > 0 and 0 < long.left_out < ROWS
    assert (asked[0] == asked[1]) == (pad == "configured")


def test_prompts_that_a_user_types_are_of_one_length_to_a_worker(tiny_llama_directory, watched_worker):
    """`generate` as it is by default."""

    def writing(prompt):
        spec = GenerateSpec(model=str(tiny_llama_directory), backend="integer", prompt=prompt, max_new_tokens=3, **EIGHT)
        return lambda place: write(prepare_writer(spec, place))

    asked = [questions(watched_worker, writing(prompt)) for prompt in ("a", "a longer prompt = 1")]
    assert asked[0] == asked[1]
    assert {rows for _, rows in asked[0]} == {PAD_TO, 1}
