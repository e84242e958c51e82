"""What scores images: encoders, preference models, the personal reward, its judge, published and weighted rewards.

Imports the nouns and data.
"""
