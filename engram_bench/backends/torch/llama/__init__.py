"""Models of Llama's shape (Llama, SmolLM2, Qwen2): forward and backward passes written for packed batches."""
