"""How the built-in base models were made: `snakemake pretrain`, from the standard library and generated English."""
