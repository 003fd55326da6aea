"""One network or method, and masks of any picture from it."""
