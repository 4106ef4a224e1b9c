"""The two levels of a search, and which of their samples go first."""

LEVELS = ("train", "valid")

CRITERIA = {
    "low-low": ("lowest", "lowest"),
    "low-high": ("lowest", "highest"),
    "high-low": ("highest", "lowest"),
    "high-high": ("highest", "highest"),
    "random": ("random", "random"),  # BDP's only
}
"""Which score goes first, on the training and on the validation level (the paper's Table 3)."""

PRUNE = 0.3
"""Share of a level's current size that a pruning takes by default: with m = 9 prunings 4 % are left
(Table 4)."""
