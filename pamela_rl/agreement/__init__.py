"""How well a reward agrees with its users: studies, measures, intervals, ceilings, comparisons, figures.

Imports the nouns, data and rewards.
"""
