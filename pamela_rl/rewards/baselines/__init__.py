"""Preference models to compare with: transformer, nearest users, demographics, population mean and regression.

Imports the nouns, data and the other modules of rewards.
"""
