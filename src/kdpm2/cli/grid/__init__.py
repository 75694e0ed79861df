"""`kdpm2 grid`: pictures of the same seeds side by side, over one or two options of `kdpm2 sample`.

An axis is an option with values (`axis`). Every cell of a grid is a plan of `kdpm2 sample`, made and checked before
anything is loaded (`cells`). They are drawn in an order that loads each model once (`run`), and kept in a folder as
they come (`kept`), so that a run that was stopped goes on there. In the end all of it is one picture (`picture`).
"""
