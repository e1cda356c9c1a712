"""Files in, frozen rows out: one file a dataset family, `read.py` in front of them all."""
