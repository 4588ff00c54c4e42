"""Training: parts (`pictures`, `sampling`, `losses`, `optim`, `state`) and recipes that read top to bottom."""
