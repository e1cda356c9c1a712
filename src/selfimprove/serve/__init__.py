"""An OpenAI-compatible server that improves before it answers: `selfimprove serve`."""
