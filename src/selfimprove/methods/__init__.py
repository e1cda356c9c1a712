"""The plot of each paper, one file a method; they never import each other."""
