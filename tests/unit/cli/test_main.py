"""The command line: what cannot be run is one sentence, status 2, and no file."""

import pytest

from private_lora.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "magic"], "unknown backend 'magic'"),
        (["--activation-bits", "40"], "activation_bits must be at most 16, not 40"),
        (["--model", "./no-such-directory"], "no-such-directory"),
        (["--data", "jsonl", "--data-options", '{"path": "no-such.jsonl"}'], "no-such.jsonl"),
        (["--data", "./no-such.jsonl"], "no-such.jsonl: No such file or directory; check the path"),
        (["--data", "./no-such-code/"], "no-such-code is not a directory"),
        (["--steps", "0"], "steps must be at least 1, not 0"),
    ],
)
def test_bad_input_is_one_sentence_and_no_file(arguments, message, tmp_path, capsys):
    defaults = "--model nano --data math_problems --backend integer --activation-bits 8 --weight-bits 8".split()
    assert main(["finetune", *defaults, *arguments, "--out", str(tmp_path / "run"), "--quiet"]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()
