# Index of the study: what is made, and where the rules are. `snakemake --cores N` makes all of it; `snakemake --cores N sweep`
# the runs of one stage, and so for each target below.


configfile: "config/config.yaml"


# Reads and checks the configuration: STUDY, or one sentence and no job.
include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        PUBLISHED,
        REPORT,


include: "workflow/rules/prepare.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/bench.smk"
include: "workflow/rules/publish.smk"


rule knowledge:
    input:
        RECORDS["knowledge"],


rule sweep:
    input:
        RECORDS["sweep"],


rule overflow:
    input:
        RECORDS["overflow"],


rule codebase:
    input:
        RECORDS["codebase"],


rule inflation:
    input:
        RECORDS["inflation"],


rule encrypted:
    input:
        RECORDS["encrypted"],


rule packed:
    input:
        RECORDS["packed"],


rule full_size:
    input:
        RECORDS["full_size"],


rule loopback:
    input:
        RECORDS["loopback"],


rule generation:
    input:
        RECORDS["generation"],


rule estimate:
    input:
        RECORDS["estimate"],


rule layer:
    input:
        RECORDS["layer"],


rule block:
    input:
        RECORDS["block"],


rule worker_view:
    input:
        RECORDS["worker_view"],


# The cost model's predictions, and with them the tables and figures: they are made in one process.
rule costs:
    input:
        COSTS,
