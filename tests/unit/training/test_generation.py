"""Generated text: the same tokens whoever multiplies and however they are asked; adapters that fit, and what workers see."""

import json

import pytest
import torch
from small_run import address_of, place_of
from transformers import AutoTokenizer

from private_lora.core.errors import UserError
from private_lora.models.load import load_base
from private_lora.models.lookup import built_in_directory
from private_lora.network.worker.held import hold
from private_lora.specs.generate import GenerateSpec
from private_lora.specs.worker import WorkerSpec
from private_lora.training.adapter import load_adapter
from private_lora.training.generation import Printer, asked, prepare_writer, write
from private_lora.training.loop import evaluate, train
from private_lora.training.preparation import prepare

EIGHT = {"activation_bits": 8, "weight_bits": 8}
SAMPLED = {"temperature": 0.9, "top_p": 0.95, "seed": 3}
TOKENS = 5


def spec_of(backend="integer", **fields):
    bits = {} if backend == "float" else EIGHT
    prompt = {} if "prompt_tokens" in fields else {"prompt": "def main(self"}
    return GenerateSpec(**{"model": "nano", "backend": backend, "max_new_tokens": TOKENS} | bits | prompt | fields)


def text_of(spec, place=None):
    return write(prepare_writer(spec, place))


@pytest.fixture(scope="module")
def adapter(make_spec, tmp_path_factory):
    """The directory of an adapter of `nano` that has changed what the model says."""
    directory = tmp_path_factory.mktemp("trained")
    run = prepare(make_spec(model="nano", backend="float", steps=3, learning_rate=0.05, eval_examples=0), directory)
    train(run)
    run.model.save_pretrained(directory / "adapter", save_embedding_layers=False)
    return directory / "adapter"


@pytest.fixture(scope="module")
def forward_worker(local_worker):
    """A worker of `nano` that holds no products backward."""
    with local_worker(WorkerSpec(model="nano", backend="packed", backward=False, **EIGHT)) as running:
        yield running


@pytest.mark.parametrize("how", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_packed_writes_the_tokens_of_integer_in_process_and_through_a_worker(how, adapter, forward_worker):
    wanted = text_of(spec_of(adapter=str(adapter), **how))
    packed = spec_of("packed", adapter=str(adapter), **how)
    assert text_of(packed) == wanted and len(wanted) > 1
    with place_of([address_of(forward_worker)]) as place:
        writer = prepare_writer(packed, place)
        assert all(product.name.endswith(" forward") for product in writer.session.products)
        assert write(writer) == wanted
        assert writer.session.counters.round_trips == writer.session.counters.encrypted_products


@pytest.mark.parametrize("mask", ["session", "fresh"])
@pytest.mark.parametrize("bits", [4, 8])
def test_greedy_tokens_of_packed_are_those_of_integer_at_ties_too(mask, bits):
    """Every token has a twin of the same logit, so that each choice is between two that are equal."""
    written, chosen = [], []
    for backend, options in (("integer", {}), ("packed", {"mask": mask})):
        fields = {"activation_bits": bits, "weight_bits": bits, "max_new_tokens": 8}
        writer, seen = prepare_writer(spec_of(backend, backend_options=options, **fields)), []
        head = writer.model.get_output_embeddings()
        with torch.no_grad():
            head.weight[1::2] = head.weight[::2]
        head.register_forward_hook(lambda _, __, logits, seen=seen: seen.append(logits[0, -1].clone()))
        written.append(write(writer))
        chosen.append(torch.stack(seen))
    assert written[0] == written[1] and len(written[0]) > 1
    assert torch.equal(*chosen)
    largest = chosen[0].topk(2).values
    assert torch.equal(largest[:, 0], largest[:, 1])


def test_questions_cut_by_rows_give_the_same_tokens(forward_worker):
    with place_of([address_of(forward_worker)], rows=3) as place:
        assert text_of(spec_of("packed"), place) == text_of(spec_of())


def test_greedy_text_is_that_of_plain_peft(adapter):
    base, tokenizer = load_base("nano")
    plain = load_adapter(base, adapter).eval()
    ids = torch.tensor([[i for i in [tokenizer.bos_token_id] if i is not None] + tokenizer("def main(self")["input_ids"]])
    alone = plain.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
    wanted = alone[0, ids.shape[1] :].tolist()
    ends = [wanted.index(end) for end in [tokenizer.eos_token_id] if end in wanted]
    assert text_of(spec_of("float", adapter=str(adapter), max_new_tokens=20)) == wanted[: min(ends, default=20)]
    assert text_of(spec_of("float", max_new_tokens=20)) != wanted


def test_questions_of_a_file_are_asked_one_by_one(tmp_path):
    path = tmp_path / "questions.txt"
    path.write_text("What is a list?\n\n  How many? \n")
    fields = {"prompt": None, "max_new_tokens": 6}
    whole = prepare_writer(spec_of("integer", questions=str(path), **fields))
    written = {question: write(writer) for question, writer in asked(whole)}
    assert list(written) == ["What is a list?", "How many?"]
    for question, tokens in written.items():
        assert tokens == text_of(spec_of("integer", prompt=question + "\n", max_new_tokens=6))


@pytest.mark.parametrize(("content", "message"), [("\n \n", "is empty"), (None, "No such file")])
def test_a_file_without_questions_is_refused(tmp_path, content, message):
    path = tmp_path / "questions.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        prepare_writer(spec_of("integer", prompt=None, questions=str(path)))


def test_a_seed_decides_what_is_sampled():
    hot = {"temperature": 1.5, "max_new_tokens": 12}
    texts = [text_of(spec_of("float", seed=seed, **hot)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


class Rows:
    """Rows of every question that a session's place is asked, in order."""

    def __init__(self, session):
        self.seen, self._product = [], session.place.product
        session.place.product = self

    def __call__(self, client, server, x):
        self.seen.append(len(x))
        return self._product(client, server, x)


@pytest.mark.parametrize("backend", ["float", "integer"])
@pytest.mark.parametrize("prompt", ["def", "class Tree: # a longer prompt"])
def test_padding_changes_no_token(backend, prompt):
    fields = {"prompt": prompt, "max_new_tokens": 16}
    assert text_of(spec_of(backend, pad_to=16, **fields)) == text_of(spec_of(backend, pad_to=0, **fields))


def test_padded_prompts_and_texts_are_of_one_length_to_a_worker(local_worker):
    held, seen = hold(WorkerSpec(model="nano", backend="integer", backward=False, **EIGHT)), []
    for product in held.products.values():
        product.server.matmul = watched(product, seen)
    asked = []
    with local_worker(held) as running:
        # The second text ends at its first token, and the worker sees no difference.
        for prompt, ends_at_once in (("a", False), ("a longer prompt = 1", True)):
            with place_of([address_of(running)]) as place:
                writer = prepare_writer(spec_of(prompt=prompt, pad_to=32), place)
                if ends_at_once:
                    writer.ends.add(text_of(spec_of(prompt=prompt))[0])
                assert (write(writer) == []) == ends_at_once
            asked.append(list(seen))
            seen.clear()
    assert asked[0] == asked[1]
    rows = [rows for _, rows in asked[0]]
    assert rows == [32] * len(held.products) + [1] * (TOKENS - 1) * len(held.products)


def watched(product, seen):
    """A server's `matmul` that notes which product is asked, and for how many rows."""
    matmul = product.server.matmul
    return lambda message: seen.append((product.name, len(message.values))) or matmul(message)


def test_a_text_stops_at_its_end_token_when_nothing_is_to_be_hidden():
    writer = prepare_writer(spec_of(max_new_tokens=12, pad_to=0))
    wanted = write(writer)
    writer.ends.add(wanted[2])
    rows = Rows(writer.session)
    assert write(writer) == wanted[: wanted.index(wanted[2])]
    assert len(rows.seen) == len(writer.session.products) * (wanted.index(wanted[2]) + 1)


def test_random_prompts_have_their_length_and_no_end():
    writer = prepare_writer(spec_of("float", prompt_tokens=7, max_new_tokens=9))
    assert len(writer.prompt) == 7
    rows = Rows(writer.session)
    assert len(write(writer)) == 9
    assert rows.seen[0] == 7 and rows.seen.count(1) == 8 * len(writer.session.products)


def test_tokens_are_shown_as_text_as_they_come():
    tokenizer = AutoTokenizer.from_pretrained(built_in_directory("nano"))
    text, shown = "a = 'naïve'", []
    printer = Printer(tokenizer, shown.append)
    for token in tokenizer(text)["input_ids"]:
        printer(token)
    assert "".join(shown) == text and len(shown) > 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 4}, "does not fit: its tensor .* is"),
        ({"target_modules": ["q_proj"]}, "does not fit: its tensor .* and the model's missing"),
        ({"target_modules": ["q_proj", "lm_head"]}, "adapts lm_head, which"),
        ({"target_modules": ["nothing"]}, "adapts nothing, which the model has not"),
        ({"use_dora": True}, "is no plain LoRA"),
        ({"peft_type": "IA3", "target_modules": None}, "is no plain LoRA"),
    ],
)
def test_adapters_that_do_not_fit_are_refused_in_a_sentence(change, message, adapter, tmp_path):
    other = tmp_path / "adapter"
    other.mkdir()
    for file in adapter.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message) as caught:
        prepare_writer(spec_of("float", adapter=str(other)))
    assert "\n" not in str(caught.value)


def test_an_adapter_of_another_model_and_none_are_refused(adapter, tmp_path):
    with pytest.raises(UserError, match="does not fit"):
        prepare_writer(spec_of("float", model="mini-llama", adapter=str(adapter)))
    with pytest.raises(UserError, match=r"no adapter_config.json and adapter_model.safetensors"):
        prepare_writer(spec_of("float", adapter=str(tmp_path)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": None}, "either a prompt, or questions"),
        ({"prompt_tokens": 3, "prompt": "a"}, "either a prompt, or questions"),
        ({"model": "Llama-3.2-1B"}, "architecture without weights and tokenizer"),
        ({"backend": "concrete_ml"}, "generates nothing"),
        ({"activation_quantizer": "static_per_tensor"}, "needs a dynamic quantizer"),
        ({"top_p": 0}, "top_p must be more than 0"),
    ],
)
def test_specs_that_cannot_be_generated_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        spec_of(**fields)


def test_texts_longer_than_the_model_are_refused():
    with pytest.raises(UserError, match=r"are more than the .* positions of nano"):
        prepare_writer(spec_of("float", max_new_tokens=10**6))


def test_exact_match_under_packed_is_that_of_integer(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("private_lora.training.loop.GENERATED_TOKENS", 4)
    rows, texts = [], []
    import private_lora.training.loop as loop

    greedy = loop.greedy_answers
    monkeypatch.setattr(loop, "greedy_answers", lambda *a: texts.append(greedy(*a)) or texts[-1])
    for backend in ("integer", "packed"):
        run = prepare(make_spec(backend=backend, eval_examples=2, generate_examples=2), tmp_path)
        evaluate(run, ends=True)
        rows.append([(row["metric"], row["value"]) for row in run.recorder.rows])
    assert rows[0] == rows[1] and "exact_match" in dict(rows[0])
    assert texts[0] == texts[1] and len(texts[0]) == 2
    assert run.session.counters.encrypted_products == run.session.counters.products > 0
