"""What a worker can count: two private sets of texts of different lengths ask it the same questions of the same rows."""

import json

from private_lora.training.loop import evaluate, train_step
from private_lora.training.preparation import prepare

ROWS = 40


def rows_asked(make_spec, directory, prompts, monkeypatch):
    """(product, rows) of every question of a step and an evaluation with written answers, on texts of these prompts."""
    directory.mkdir()
    path = directory / "mine.jsonl"
    path.write_text("".join(json.dumps({"question": prompt, "answer": "7"}) + "\n" for prompt in prompts))
    spec = make_spec(
        data="jsonl", data_options={"train_path": str(path), "test_path": str(_copy(path))}, sequence_length=32,
        train_examples=ROWS, eval_examples=ROWS, generate_examples=ROWS,
    )  # fmt: skip
    run, asked = prepare(spec, directory), []
    product = run.session.place.product

    def counted(client, server, x):
        asked.append((client.plan, len(x)))
        return product(client, server, x)

    monkeypatch.setattr(run.session.place, "product", counted)
    run.model.train()
    train_step(run)
    evaluate(run, ends=True)
    return asked, run


def _copy(path):
    other = path.with_name("held-out.jsonl")
    other.write_text(path.read_text())
    return other


def test_two_sets_of_texts_ask_for_the_same_rows(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("private_lora.training.loop.GENERATED_TOKENS", 4)
    short, _ = rows_asked(make_spec, tmp_path / "short", [f"{i}" for i in range(ROWS)], monkeypatch)
    # Some of these are too long to have a row at all.
    texts = [f"{i} and more" + " of that, a long question" * (30 if i % 5 == 0 else 1) for i in range(ROWS)]
    long, run = rows_asked(make_spec, tmp_path / "long", texts, monkeypatch)
    assert 0 < run.data_report["left_out"] < ROWS
    assert len(run.held_out) < ROWS
    assert [rows for _, rows in short] == [rows for _, rows in long]
