"""IFEval (Zhou et al., 2023, arXiv:2311.07911): instructions whose keeping a program can check."""
