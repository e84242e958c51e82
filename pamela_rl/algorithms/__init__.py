"""How a policy learns: one file an algorithm, advantages, and the updates that all share.

May import the nouns and diffusion.
"""
