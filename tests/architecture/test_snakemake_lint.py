"""Snakemake's own linter."""

# The environment is one for all rules, and made before Snakemake starts: see Makefile and environment.yml.
ACCEPTED = "Specify a conda environment or container for each rule"


def test_linter_finds_nothing_but_missing_rule_environments(tree):
    output = tree.snakemake("--lint").stdout
    findings = [line.strip("* ") for line in output.splitlines() if line.startswith("    * ")]
    assert findings, output
    assert [f for f in findings if not f.startswith(ACCEPTED)] == []
