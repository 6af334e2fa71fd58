# What is there before any run: published values, and base models on request.


rule prepare:
    input:
        "resources/reference/paper_values.csv",
        "resources/reference/fhe_vs_clear_steps.csv",
        "resources/reference/convergence_curves.csv",
        code=code("results.prepare"),
    output:
        values=f"{DATA}/published_values.csv",
        curves=f"{DATA}/published_curves.csv",
    log:
        f"{LOGS}/prepare.log",
    localrule: True
    shell:
        "python -m private_lora prepare --reference resources/reference"
        " --values {output.values} --curves {output.curves} > {log} 2>&1"


rule beside:
    input:
        lambda w: beside(w.name),
    output:
        f"{DATA}/beside/{{name}}.csv",
    log:
        f"{LOGS}/beside/{{name}}.log",
    localrule: True
    shell:
        "python -m private_lora collect --out {output} {input:q} > {log} 2>&1"


# `snakemake pretrain` rebuilds the base models, which takes hours, and is no part of the study. The result lies beside
# the other results: models under resources/ are inputs of every run, so they are replaced by hand,
# `cp -r results/pretrain/mini-llama resources/`, and then every run that used them is repeated.
rule pretrain:
    input:
        "results/pretrain/mini-llama/model.safetensors",
        "results/pretrain/nano/model.safetensors",


rule pretrain_mini_llama:
    output:
        model="results/pretrain/mini-llama/model.safetensors",
        tokenizer="results/pretrain/mini-llama/tokenizer.json",
        card="results/pretrain/mini-llama/README.md",
    log:
        "results/pretrain/mini-llama.log",
    threads: ALL_CORES
    resources:
        mem_mb=4000,
        runtime=A_DAY,
    shell:
        "python -m private_lora pretrain --preset mini-llama --threads {threads}"
        " --out $(dirname {output.model}) > {log} 2>&1"


rule pretrain_nano:
    output:
        model="results/pretrain/nano/model.safetensors",
    log:
        "results/pretrain/nano.log",
    threads: ALL_CORES
    resources:
        mem_mb=4000,
        runtime=A_DAY,
    shell:
        "python -m private_lora pretrain --preset nano --threads {threads}" " --out $(dirname {output.model}) > {log} 2>&1"
