"""What runs again after a change, and what does not."""

import copy

from workflow_tree import STUDY

PUBLISHED = {"table_runs", "table_claims", "figure_loss_curves", "figure_layer_latency"}


def changed(tree, edit) -> dict[str, int]:
    """Jobs after an edit of the study's configuration."""
    config = copy.deepcopy(STUDY)
    edit(config)
    return tree.jobs(tree.configure("study.yaml", config))


def append(tree, module: str, text: str) -> None:
    with open(tree.root / "src/private_lora" / module, "a") as handle:
        handle.write(text)


def test_a_finished_study_has_nothing_to_do(finished):
    result = finished.snakemake("--configfile", "study.yaml")
    assert result.returncode == 0
    assert "Nothing to be done" in result.stdout


def test_a_new_bit_width_runs_alone_and_is_published(done):
    jobs = changed(done, lambda c: c["sweep"]["groups"][0].update(bits=[8, 6]))
    assert jobs.pop("finetune") == 1
    assert set(jobs) == PUBLISHED | {"convergence", "costs", "all", "total"}


def test_a_hyper_parameter_runs_all_trainings_again_but_no_latency(done):
    jobs = changed(done, lambda c: c.update(training={"learning_rate": 0.001}))
    assert jobs["finetune"] == 2
    assert "layer" not in jobs


def test_what_changes_no_number_changes_nothing(done):
    assert changed(done, lambda c: c.update(memory_mb={"default": 5000})) == {}
    append(done, "training.py", "\n# A remark.\n")
    assert done.jobs("study.yaml") == {}


def test_editing_a_figure_makes_figures_only(done):
    append(done, "figures/losses.py", "\n# A remark: even that is worth new figures, they are cheap.\n")
    assert set(done.jobs("study.yaml")) == {"figure_loss_curves", "figure_layer_latency", "all", "total"}


def test_editing_the_trainer_runs_trainings_again(done):
    append(done, "training.py", "\nMOMENTUM = 0.9\n")
    jobs = done.jobs("study.yaml")
    assert jobs["finetune"] == 2
    assert "layer" not in jobs


def test_editing_a_backend_runs_only_what_goes_through_it(done):
    append(done, "backends/integer.py", "\nCHANGED = True\n")
    jobs = done.jobs("study.yaml")
    assert jobs["finetune"] == 1
    assert jobs["layer"] == 1
    assert jobs["block"] == 1


def test_editing_the_block_measurement_repeats_that_alone(done):
    append(done, "block_bench.py", "\nCHANGED = True\n")
    jobs = done.jobs("study.yaml")
    assert set(jobs) == PUBLISHED | {"block", "blocks", "costs", "all", "total"}
    assert jobs["block"] == 1


def test_another_price_changes_the_costs_and_measures_nothing(done):
    jobs = changed(done, lambda c: c.update(costs={"prices": {"worker_per_hour": 0.5}}))
    assert set(jobs) == PUBLISHED | {"costs", "all", "total"}


def test_studies_with_their_own_results_leave_each_other_alone(done):
    before = done.files()
    assert done.snakemake("--configfile", done.configure("other.yaml", STUDY | {"results": "elsewhere"})).returncode == 0
    assert done.files() == before
    assert done.jobs("study.yaml") == {}
