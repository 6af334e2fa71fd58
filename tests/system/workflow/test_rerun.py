"""What runs again after a change, and what does not."""

import copy
import shutil

from workflow_tree import STUDY

FLOAT, INTEGER = "sweep_nano_float_seed0", "sweep_nano_integer_dynamic-token_static-channel_8bit_seed0"
LOOPBACKS = [f"loopback_nano_packed_{how}_dynamic-token_static-channel_8bit_seed0" for how in ("1-worker", "in-process")]
LAYER, BLOCK = "layer_integer_1x4x4_8bit", "block_Llama-3.2-1B_integer_4-tokens_8bit"


def edited(tree, edit) -> str:
    """The study's configuration after an edit."""
    config = copy.deepcopy(STUDY)
    edit(config)
    return tree.configure("study.yaml", config)


def append(tree, module: str, text: str) -> None:
    with open(tree.root / "src/private_lora" / module, "a") as handle:
        handle.write(text)


def replace(tree, module: str, old: str, new: str) -> None:
    path = tree.root / "src/private_lora" / module
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_finished_study_has_nothing_to_do(finished):
    result = finished.snakemake("--configfile", "study.yaml")
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout


def test_a_new_bit_width_runs_alone_and_is_published(done):
    config = edited(done, lambda c: c["sweep"]["groups"][0].update(bits=[8, 6]))
    assert done.jobs(config) == {"finetune": 1, "publish": 1, "report": 1, "all": 1, "total": 4}
    assert done.run_again(config) == [INTEGER.replace("8bit", "6bit")]
    assert done.jobs(config) == {}


def test_a_hyper_parameter_runs_all_trainings_again_but_no_latency(done):
    config = edited(done, lambda c: c.update(training={"learning_rate": 0.001}))
    assert done.run_again(config) == sorted([FLOAT, INTEGER, *LOOPBACKS])


def test_what_changes_no_number_changes_nothing(done):
    assert done.jobs(edited(done, lambda c: c.update(memory_mb={"default": 5000}))) == {}
    append(done, "training/loop.py", "\n# A remark.\n")
    assert done.jobs("study.yaml") == {}


def test_editing_a_figure_publishes_again_and_runs_nothing(done):
    append(done, "publish/figures/losses.py", "\n# A remark: even that is worth new figures, they are cheap.\n")
    assert done.jobs("study.yaml") == {"publish": 1, "report": 1, "all": 1, "total": 3}


def test_editing_the_trainer_runs_trainings_again(done):
    append(done, "training/loop.py", "\nMOMENTUM = 0.9\n")
    assert done.run_again("study.yaml") == sorted([FLOAT, INTEGER, *LOOPBACKS])


def test_editing_a_backend_runs_only_what_goes_through_it(done):
    append(done, "backends/clear/integer.py", "\nCHANGED = True\n")
    assert done.run_again("study.yaml") == sorted([INTEGER, LAYER, BLOCK])


def test_editing_the_block_measurement_repeats_that_alone(done):
    append(done, "bench/block.py", "\nCHANGED = True\n")
    assert done.jobs("study.yaml") == {"block_job": 1, "publish": 1, "report": 1, "all": 1, "total": 4}
    assert done.run_again("study.yaml") == [BLOCK]


def test_editing_which_products_a_block_has_repeats_the_blocks_alone(done):
    replace(done, "specs/block.py", "def products(self)", "def changed(self):\n        return True\n\n    def products(self)")
    assert set(done.run_again("study.yaml")) & {LAYER, BLOCK} == {BLOCK}


def test_editing_the_word_list_times_nothing_again(done):
    append(done, "models/pretraining/english.py", "\nMORE = ('words',)\n")
    assert not {"layer_job", "block_job"} & set(done.jobs("study.yaml"))


def test_another_base_model_trains_again(done):
    link = done.root / "resources"
    source = link.resolve()
    link.unlink()
    link.mkdir()
    for path in source.iterdir():
        (link / path.name).symlink_to(path)
    (link / "nano").unlink()
    shutil.copytree(source / "nano", link / "nano")
    assert done.run_again("study.yaml") == []
    with open(link / "nano/config.json", "a") as handle:
        handle.write("\n")
    assert done.run_again("study.yaml") == sorted([FLOAT, INTEGER, *LOOPBACKS])


def test_another_price_changes_the_costs_and_measures_nothing(done):
    config = edited(done, lambda c: c.update(costs={"prices": {"worker_per_hour": 0.5}}))
    assert done.jobs(config) == {"publish": 1, "report": 1, "all": 1, "total": 3}


def test_a_stage_is_a_target(done):
    config = edited(done, lambda c: c.update(training={"learning_rate": 0.001}))
    result = done.snakemake("sweep", "--configfile", config)
    assert result.returncode == 0, result.stdout
    assert done.run_again(config) == LOOPBACKS


def test_studies_with_their_own_results_leave_each_other_alone(done):
    before = done.files()
    assert done.snakemake("--configfile", done.configure("other.yaml", STUDY | {"results": "elsewhere"})).returncode == 0
    assert done.files() == before
    assert done.jobs("study.yaml") == {}


def test_editing_the_page_makes_the_report_alone(done):
    append(done, "publish/report/page.css", "\n/* Another colour. */\n")
    assert done.jobs("study.yaml") == {"report": 1, "all": 1, "total": 2}
