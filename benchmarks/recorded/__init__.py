"""Recorders of lessons: one module a lesson, run by ``scripts/record.py``; what they find stands in notebooks/recorded.json.

``lessonNN.record(cells, seeds)`` returns the figures of lesson NN as a dict; ``cells`` keeps what took long, see
``common.Cells``; ``seeds`` is how often an experiment is repeated.
"""
