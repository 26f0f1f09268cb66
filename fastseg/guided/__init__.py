"""Networks that take prompts as channels beside those of the image: RITM, specialists."""
