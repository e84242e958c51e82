"""The loop, and what belongs to a run: state, validation, plan, checkpoints, record, processes, health.

May import the nouns, data, diffusion, algorithms, steering and evaluation.
"""
