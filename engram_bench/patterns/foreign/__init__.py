"""Training data of other tools, read as patterns: chat JSONL, ShareGPT, Alpaca, pairs in JSON, CSV, Parquet and Arrow."""
