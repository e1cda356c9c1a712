"""A run told to trackers while it goes on, from what it writes into its folder and from nothing else.

    folder.py    what a run wrote since one last looked: training logs, shards, finished steps, the summary
    measures.py  numbers of a step's rows, by their columns
    trackers.py  accelerate's trackers: opened, told, closed
    telling.py   the thread that looks into the folder and tells

So no method knows of trackers, processes that train need none, and what a tracker does or fails to do
cannot change a run.
"""
