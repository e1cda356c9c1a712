"""LMSI: the plot, and what its steps are made of."""
