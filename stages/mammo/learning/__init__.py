"""Networks, augmentation, training."""
