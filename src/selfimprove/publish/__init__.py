"""What leaves this machine: a model as a GGUF file, a folder or adapters, its card, and the hub."""
