"""Tables of ratings and choices, image stores, splits, prompts and their phrases.

Imports the nouns only: types, errors, config, storage.
"""
