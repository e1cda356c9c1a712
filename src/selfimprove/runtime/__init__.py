"""A run of any method: launched, resumed, rehearsed, and trained by several processes."""
