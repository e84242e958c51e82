"""Frozen image and prompt encoders, their preprocessing, and a cache of features on disk.

Imports the nouns, data and ``rewards.preference``.
"""
