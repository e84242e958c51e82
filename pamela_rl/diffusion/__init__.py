"""A policy that acts: families of models, noise schedules and transitions, rollout, LoRA adapters, memory.

May import the nouns alone; a reward reaches it as a callable.
"""
