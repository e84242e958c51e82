"""The embedded default: a small text-to-image model, simulated users whose true taste is known, and a content judge.

May import every wing except cli.
"""
