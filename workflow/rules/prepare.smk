# What is there before any run: compiled kernels, and base models on request.


rule kernels:
    output:
        KERNELS,
    log:
        "results/kernels.log",
    localrule: True
    params:
        code=code_fingerprint(source_files(frozenset({"bench.kernels"}))),
    message:
        "compiling kernels once for this clone"
    shell:
        "python -m private_lora compile --out {output} > {log} 2>&1"


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
