"""Prompts in, draws out: the engines that sample a language model."""
