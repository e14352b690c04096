"""Semi-supervised learning with variational autoencoders."""
