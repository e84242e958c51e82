"""Image generators that need no training of the image model: search, best of N, rewriting, remote services.

May import the nouns, data, diffusion and rewards.
"""
