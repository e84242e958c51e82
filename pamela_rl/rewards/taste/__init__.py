"""The taste basis: a shared score plus each user's taste, with a learned prior and closed-form posteriors.

Imports the nouns, data and the other modules of rewards.
"""
