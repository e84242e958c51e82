"""What can be done for a person without touching weights, and what turns prompts into pictures."""
