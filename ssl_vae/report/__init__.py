"""What a run shows of itself: pictures, report.html, model_card.md, comparisons.

`gather` turns a trained model into a few small arrays, which a run keeps as report.npz.
Everything else is drawn from those, results.json and the logs: without JAX, the data or
the model. This file imports nothing, so that a mistyped command is answered at once.
"""
