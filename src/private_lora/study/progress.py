"""How far a study is and how long it still takes: a line for each job that ends, from what Snakemake logs."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping

from private_lora.study.jobs import Batch

PUBLISHING_S = 15.0
# Of Snakemake's own lines, those that say the same at greater length; --verbose has them too, and so has its log.
SAID_SHORTER = ("job_info", "job_started", "job_finished", "progress", "resources_info")


def show(batches: Mapping[str, Batch], workflow) -> None:
    """From now on a line for each job of the workflow that ends, instead of a dozen. A dry run says what it always does."""
    logger = logging.getLogger("snakemake.logging")
    settings = workflow.output_settings
    if settings.dryrun or settings.verbose or not workflow.is_main_process:
        return
    for handler in logger.handlers:
        handler.addFilter(lambda record: _event(record) not in SAID_SHORTER and record.msg != "Select jobs to execute...")
    logger.addHandler(Progress(batches, workflow))


def _event(record: logging.LogRecord) -> str:
    return str(getattr(record, "event", ""))


class Progress(logging.Handler):
    """Listens to Snakemake. batches: jobs by the value of their wildcard `batch`."""

    def __init__(self, batches: Mapping[str, Batch], workflow):
        super().__init__()
        self._batches, self._workflow, self._begin = batches, workflow, time.monotonic()
        self._messages: dict[int, tuple[str, float]] = {}
        self._waiting: dict[int, Batch] | None = None
        self._started: dict[int, float] = {}
        self._runs = 0

    def emit(self, record: logging.LogRecord) -> None:
        if _event(record) == "job_info":
            self._on_start(record.jobid, record.rule_msg)
        elif _event(record) == "job_finished":
            self._on_end(record.job_id)

    def _on_start(self, job: int, message: str | None) -> None:
        if self._waiting is None:
            self._waiting = self._planned()
            self._runs = sum(len(batch.specs) for batch in self._waiting.values())
        self._started[job] = time.monotonic()
        if message:
            self._messages[job] = message, time.monotonic()

    def _planned(self) -> dict[int, Batch]:
        """Jobs of this call by Snakemake's number."""
        dag = self._workflow.dag
        names = {dag.jobid(job): job.wildcards_dict.get("batch") for job in dag.needrun_jobs()}
        return {job: self._batches[name] for job, name in names.items() if name in self._batches}

    def _on_end(self, job: int) -> None:
        if job in self._messages:
            message, start = self._messages.pop(job)
            print(f"{message}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        if self._waiting and self._waiting.pop(job, None):
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        now = time.monotonic()
        done = self._runs - sum(len(batch.specs) for batch in self._waiting.values())
        left = {job: max(0.0, b.seconds - (now - self._started.get(job, now))) for job, b in self._waiting.items()}
        timed = sum(seconds for job, seconds in left.items() if self._waiting[job].is_timed)
        one_by_one = sum(seconds for job, seconds in left.items() if self._waiting[job].memory_bus)
        beside = max(one_by_one, (sum(left.values()) - timed) / max(1, self._workflow.cores or 1))
        return progress_line(done, self._runs, now - self._begin, timed + beside + PUBLISHING_S)


def progress_line(done: int, runs: int, seconds: float, left: float) -> str:
    """Such as `[ 34 of 61 runs, 6 min so far, about 4 min left ]`."""
    return f"[ {done} of {runs} runs, {_duration(seconds)} so far, about {_duration(left)} left ]"


def _duration(seconds: float) -> str:
    """Minutes, or seconds where there are few."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{10 * max(1, round(seconds / 10))} s"
