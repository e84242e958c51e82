"""Adapters and rewards on the Hugging Face hub, by default without whose they are.

May import the nouns, diffusion and rewards.
"""
