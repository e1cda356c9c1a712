"""MT-Bench (Zheng et al., 2023, arXiv:2306.05685): two turns a question, each rated by a judge from 1 to 10."""
