"""PIT: the plot, what its steps are made of, and improvement from a finished run."""
