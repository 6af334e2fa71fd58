"""Models that come with this project, by name."""

BUILT_IN_MODELS = ("mini-llama", "mini-llama-outlier", "nano")
# Configurations without weights, under resources/architectures: for measurements of cost with random weights.
ARCHITECTURES = ("Llama-3.2-1B", "Llama-3.1-8B", "Llama-3.1-70B", "GPT-2", "Qwen2.5-1.5B", "SmolLM2-135M")
