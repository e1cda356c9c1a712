"""Run folders in, one self-contained HTML page out.

`figures.figures(run)` gives the page's numbers as plain data, `page.write(runs, out)` the page.
Both only read: a run that is still being written can be looked at.
"""
