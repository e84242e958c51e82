"""The studio: rate pictures, see one's taste, train an adapter, judge it blind, in a browser.

Pages and their requests are in ``web``, what is stored in ``database``, what takes long in ``jobs``.
"""
