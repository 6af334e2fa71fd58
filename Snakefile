# Index of the study: what is made, and where the rules are. `snakemake --cores N` makes all of it.


configfile: "config/config.yaml"


# Reads and checks the configuration: STUDY, or one sentence and no job.
include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        PUBLISHED,


include: "workflow/rules/prepare.smk"
include: "workflow/rules/convergence.smk"
include: "workflow/rules/loopback.smk"
include: "workflow/rules/bench.smk"
include: "workflow/rules/costs.smk"
include: "workflow/rules/publish.smk"
