"""The embedded default: a small world, its oracle, its tokenizer and the shipped models."""
