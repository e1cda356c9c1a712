"""lm-evaluation-harness as measuring instrument: a model goes in, its figures come back, before and after."""
