"""Answers: what a text states, when two are the same, and which one the majority gives."""
