"""A run watched in a terminal, from its folder alone: while it goes on, when it was killed, when it has finished.

state.py    what the folder says now: steps, their progress and rates, who writes it, logs
plan.py     the steps that are still to come, by a dry run in a process of its own
samples.py  the newest texts
frame.py    all of it as one picture
"""
