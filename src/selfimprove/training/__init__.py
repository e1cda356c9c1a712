"""Training: examples in, a plain Hugging Face model folder out."""
