"""Comparison of arms on the same prompts and noise, its report and figures, and the blind test.

May import the nouns, data, diffusion, rewards and steering.
"""
