"""How recipes read YAML and flags, and how they end. May import the nouns: types, errors, config and storage."""
